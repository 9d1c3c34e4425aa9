#!/usr/bin/env bash
# The contract of the official mysql image, with the data directory initialised when the image is built.
set -euo pipefail

readonly data=/var/lib/mysql
# Most of a new data directory is empty space, which a sparse archive leaves out: unpacking it is quicker than leaving a layer of the image.
readonly pristine=/opt/mysql/data.tar

fail() {
    printf 'mysql image: %s\n' "$*" >&2
    exit 1
}

quote_ident() { printf '%s' "\`${1//\`/\`\`}\`"; }
quote_literal() {
    local text=${1//\\/\\\\}
    printf "'%s'" "${text//\'/\'\'}"
}

client() { MYSQL_PWD=${MYSQL_ROOT_PASSWORD:-} mysql --protocol=socket --user=root "$@"; }

# start_locally ARG...: the server without its port, in the background.
start_locally() {
    "$@" --skip-networking &
    local server=$!
    until client --execute='SELECT 1' > /dev/null 2>&1; do
        kill -0 "$server" 2> /dev/null || fail 'the server did not start'
        sleep 0.1
    done
}

stop_locally() {
    client --execute='SHUTDOWN'
    wait
}

# The server's UUID is left out, so that each container makes its own.
initialise() {
    mysqld --initialize-insecure --innodb-redo-log-capacity=8M
    start_locally mysqld --innodb-redo-log-capacity=8M --skip-log-bin --innodb-fast-shutdown=0
    mysql_tzinfo_to_sql /usr/share/zoneinfo 2> /dev/null | client mysql
    stop_locally
    rm -f "$data"/auto.cnf "$data"/binlog.*
    find "$data" -type f -exec fallocate --dig-holes {} \;
    tar --create --sparse --directory="$data" --file="$pristine" .
    find "$data" -mindepth 1 -delete
}

check_environment() {
    local name file
    for name in MYSQL_ROOT_PASSWORD MYSQL_PASSWORD; do
        file=${name}_FILE
        [[ -z ${!file:-} ]] || export "$name=$(< "${!file}")"
        [[ ${!name:-} != *$'\n'* ]] || fail "$name must not contain a line break"
    done
    [[ -n ${MYSQL_ROOT_PASSWORD:-}${MYSQL_ALLOW_EMPTY_PASSWORD:-} ]] \
        || fail "MYSQL_ROOT_PASSWORD is not set: give it a value (docker run -e MYSQL_ROOT_PASSWORD=...)"
    if [[ -n ${MYSQL_USER:-} ]]; then
        [[ $MYSQL_USER != root ]] || fail "MYSQL_USER must not be root, which is there anyway"
        [[ -n ${MYSQL_PASSWORD:-} ]] || fail "MYSQL_PASSWORD is not set, the password of MYSQL_USER"
    fi
}

# As in the official image, root's account stays out of the binary log; the database and its user don't.
access() {
    local root_password user
    root_password=$(quote_literal "${MYSQL_ROOT_PASSWORD:-}")
    printf 'SET @@SESSION.sql_log_bin = 0;\n'
    printf "ALTER USER 'root'@'localhost' IDENTIFIED BY %s;\n" "$root_password"
    printf "CREATE USER 'root'@'%%' IDENTIFIED BY %s;\n" "$root_password"
    printf "GRANT ALL ON *.* TO 'root'@'%%' WITH GRANT OPTION;\n"
    printf 'SET @@SESSION.sql_log_bin = 1;\n'
    if [[ -n ${MYSQL_DATABASE:-} ]]; then
        printf 'CREATE DATABASE IF NOT EXISTS %s;\n' "$(quote_ident "$MYSQL_DATABASE")"
    fi
    if [[ -n ${MYSQL_USER:-} ]]; then
        user="$(quote_literal "$MYSQL_USER")@'%'"
        printf 'CREATE USER %s IDENTIFIED BY %s;\n' "$user" "$(quote_literal "$MYSQL_PASSWORD")"
        if [[ -n ${MYSQL_DATABASE:-} ]]; then
            printf 'GRANT ALL ON %s.* TO %s;\n' "$(quote_ident "${MYSQL_DATABASE//_/\\_}")" "$user"
        fi
    fi
}

run_init_scripts() {
    local script
    local -a database=()
    [[ -z ${MYSQL_DATABASE:-} ]] || database=("$MYSQL_DATABASE")
    for script in /docker-entrypoint-initdb.d/*; do
        printf 'running %s\n' "$script"
        case $script in
            *.sql) client "${database[@]}" < "$script" ;;
            *.sql.gz) gunzip --stdout "$script" | client "${database[@]}" ;;
            *.sh) bash "$script" ;;
            *) printf 'ignored: %s\n' "$script" ;;
        esac
    done
}

run_server() {
    if [[ ! -d $data/mysql ]]; then
        check_environment
        tar --extract --sparse --no-overwrite-dir --directory="$data" --file="$pristine"
        access > /tmp/access.sql
        # The server executes this file before it accepts the first connection.
        if [[ -n $(ls -A /docker-entrypoint-initdb.d) ]]; then
            start_locally "$@" --init-file=/tmp/access.sql
            run_init_scripts
            stop_locally
        else
            set -- "$@" --init-file=/tmp/access.sql
        fi
    fi
    exec "$@"
}

if [[ ${1:-mysqld} == -* ]]; then
    set -- mysqld "$@"
fi

case ${1:-mysqld} in
    initdb) initialise ;;
    mysqld) run_server "${@:-mysqld}" ;;
    *) exec "$@" ;;
esac
