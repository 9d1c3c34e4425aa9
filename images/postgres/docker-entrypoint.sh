#!/usr/bin/env bash
# The contract of the official postgres image, with initdb done when the image is built.
set -euo pipefail

readonly pristine="$PGDATA/changeproof.pristine"

fail() {
    printf 'postgres image: %s\n' "$*" >&2
    exit 1
}

# Settings are in the configuration's file so that `postgres -c name=value` still wins over each of them.
# fsync and full_page_writes are off because the data is thrown away with the container. synchronous_commit stays on: an asynchronous
# commit is flushed up to wal_writer_delay later, and logical decoding only sees flushed WAL, so it would add its delay to each lag measured.
initialise_cluster() {
    local -a locale=(--locale=C.UTF-8)
    # Since 17 PostgreSQL has collations of its own, which no update of the C library changes.
    if (($(postgres --version | grep -oE '[0-9]+' | head -n 1) >= 17)); then
        locale+=(--locale-provider=builtin --builtin-locale=C.UTF-8)
    fi
    initdb --pgdata="$PGDATA" --username=postgres --no-sync --encoding=UTF8 "${locale[@]}" --auth-local=trust --auth-host=scram-sha-256
    cat >> "$PGDATA/postgresql.conf" << EOF
listen_addresses = '*'
wal_level = 'logical'
max_connections = '200'
max_replication_slots = '64'
max_wal_senders = '64'
max_prepared_transactions = '16'
shared_buffers = '96MB'
max_parallel_workers_per_gather = '0'
jit = 'off'
fsync = 'off'
full_page_writes = 'off'
log_checkpoints = 'off'
timezone = 'UTC'
log_timezone = 'UTC'
EOF
    # Replaced at the start of the container by what POSTGRES_HOST_AUTH_METHOD says.
    printf 'local all all trust\nlocal replication all trust\n' > "$PGDATA/pg_hba.conf"
    touch "$pristine"
}

# Single-user mode takes one statement a line and hides an error in its log, so the log is searched for one.
single_user() {
    local log
    log=$(postgres --single -D "$PGDATA" -c log_min_messages=error "$1" 2>&1 >/dev/null)
    if grep -qE 'ERROR|FATAL|PANIC' <<< "$log"; then
        fail "could not prepare the cluster: $log"
    fi
}

# The cluster lies in a layer of the image, and the first open of a file for writing copies it into the container's own. That copy ends
# with EINTR if a signal comes, which PostgreSQL, whose processes signal each other, takes for an error. So all is copied beforehand.
leave_the_layer() {
    # shellcheck disable=SC2016 # the inner shell expands it
    find "$PGDATA" -type f -print0 | xargs -0 -n 250 -P 4 sh -c 'for file; do : >> "$file"; done' sh
}

quote_ident() { printf '"%s"' "${1//\"/\"\"}"; }
quote_literal() {
    local text=${1//\'/\'\'}
    printf "E'%s'" "${text//\\/\\\\}"
}

prepare_access() {
    local user=${POSTGRES_USER:-postgres} password=${POSTGRES_PASSWORD:-} method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    local database=${POSTGRES_DB:-$user} set_password=''
    if [[ -n ${POSTGRES_PASSWORD_FILE:-} ]]; then
        password=$(< "$POSTGRES_PASSWORD_FILE")
    fi
    if [[ -z $password && $method != trust ]]; then
        fail "POSTGRES_PASSWORD is not set: give it a value (docker run -e POSTGRES_PASSWORD=...)"
    fi
    if [[ $password == *$'\n'* ]]; then
        fail "POSTGRES_PASSWORD must not contain a line break"
    fi
    if [[ -n $password ]]; then
        set_password="PASSWORD $(quote_literal "$password")"
    fi
    {
        if [[ $user == postgres ]]; then
            [[ -z $set_password ]] || printf 'ALTER ROLE postgres %s\n' "$set_password"
        else
            printf 'CREATE ROLE %s SUPERUSER LOGIN REPLICATION BYPASSRLS CREATEROLE CREATEDB %s\n' "$(quote_ident "$user")" "$set_password"
        fi
        if [[ $database != postgres ]]; then
            printf 'CREATE DATABASE %s OWNER %s\n' "$(quote_ident "$database")" "$(quote_ident "$user")"
        fi
    } | single_user postgres
    {
        printf 'local all all trust\nlocal replication all trust\n'
        printf 'host all all all %s\nhost replication all all %s\n' "$method" "$method"
    } > "$PGDATA/pg_hba.conf"
    run_init_scripts "$user" "$database"
}

run_init_scripts() {
    local user=$1 database=$2 script
    local -a psql=(psql -X -v ON_ERROR_STOP=1 --no-password --username "$user" --dbname "$database")
    [[ -n $(ls -A /docker-entrypoint-initdb.d) ]] || return 0
    pg_ctl --pgdata="$PGDATA" --silent --wait --log=/tmp/init.log -o "-c listen_addresses=''" start
    for script in /docker-entrypoint-initdb.d/*; do
        printf 'running %s\n' "$script"
        case $script in
            *.sql) "${psql[@]}" --file="$script" ;;
            *.sql.gz) gunzip --stdout "$script" | "${psql[@]}" ;;
            *.sh) bash "$script" ;;
            *) printf 'ignored: %s\n' "$script" ;;
        esac
    done
    pg_ctl --pgdata="$PGDATA" --silent --wait --mode=fast stop
}

if [[ ${1:-postgres} == -* ]]; then
    set -- postgres "$@"
fi

case ${1:-postgres} in
    initdb)
        initialise_cluster
        ;;
    postgres)
        if [[ ! -s $PGDATA/PG_VERSION ]]; then
            initialise_cluster
        fi
        if [[ -e $pristine ]]; then
            leave_the_layer
            prepare_access
            rm "$pristine"
            # As in the official image: stdout tells of the end of the preparation, stderr (from the server itself) that connections are accepted.
            printf 'prepared; next on stderr: database system is ready to accept connections\n'
        fi
        exec "${@:-postgres}"
        ;;
    *)
        exec "$@"
        ;;
esac
