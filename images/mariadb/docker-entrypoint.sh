#!/usr/bin/env bash
# The contract of the official mariadb image, with the data directory initialised when the image is built.
set -euo pipefail

readonly data=/var/lib/mysql
# Most of a new data directory is empty space, which a sparse archive leaves out: unpacking it is quicker than leaving a layer of the image.
readonly pristine=/opt/mariadb/data.tar

fail() {
    printf 'mariadb image: %s\n' "$*" >&2
    exit 1
}

quote_ident() { printf '%s' "\`${1//\`/\`\`}\`"; }
quote_literal() {
    local text=${1//\\/\\\\}
    printf "'%s'" "${text//\'/\'\'}"
}

root_password='' password='' user='' database=''

client() { MYSQL_PWD=$root_password mariadb --protocol=socket --user=root "$@"; }

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

# The tool that fills the directory gives root accounts to this machine's names and addresses, without a password.
initialise() {
    # Without a certificate the server makes itself one at each start, which takes longer than the rest of the start.
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 36500 -subj /CN=mariadb \
        -keyout /opt/mariadb/server.key -out /opt/mariadb/server.pem
    mariadb-install-db --auth-root-authentication-method=normal --skip-test-db > /dev/null
    start_locally mariadbd --skip-log-bin --innodb-fast-shutdown=0
    mariadb-tzinfo-to-sql /usr/share/zoneinfo 2> /dev/null | client mysql
    client mysql --execute="DELETE FROM global_priv WHERE User = 'root' AND Host != 'localhost'; DELETE FROM proxies_priv WHERE Host != 'localhost'"
    stop_locally
    rm -f "$data"/binlog.*
    find "$data" -type f -exec fallocate --dig-holes {} \;
    tar --create --sparse --directory="$data" --file="$pristine" .
    find "$data" -mindepth 1 -delete
}

# Each variable of the contract has two names: MARIADB_DATABASE and MYSQL_DATABASE.
variable() {
    local maria="MARIADB_$1" my="MYSQL_$1"
    printf '%s' "${!maria:-${!my:-}}"
}

password_of() {
    local file
    file=$(variable "$1_FILE")
    if [[ -n $file ]]; then cat "$file"; else variable "$1"; fi
}

check_environment() {
    root_password=$(password_of ROOT_PASSWORD)
    password=$(password_of PASSWORD)
    user=$(variable USER)
    database=$(variable DATABASE)
    [[ $root_password$password != *$'\n'* ]] || fail 'a password must not contain a line break'
    [[ -n $root_password$(variable ALLOW_EMPTY_PASSWORD)$(variable ALLOW_EMPTY_ROOT_PASSWORD) ]] \
        || fail "MARIADB_ROOT_PASSWORD is not set: give it a value (docker run -e MARIADB_ROOT_PASSWORD=...)"
    if [[ -n $user ]]; then
        [[ $user != root ]] || fail "MARIADB_USER must not be root, which is there anyway"
        [[ -n $password ]] || fail "MARIADB_PASSWORD is not set, the password of MARIADB_USER"
    fi
}

# As in the official image, root's account stays out of the binary log; the database and its user don't.
access() {
    local secret account
    secret=$(quote_literal "$root_password")
    account="$(quote_literal "$user")@'%'"
    printf 'SET @@SESSION.sql_log_bin = 0;\n'
    printf "ALTER USER 'root'@'localhost' IDENTIFIED BY %s;\n" "$secret"
    printf "CREATE USER 'root'@'%%' IDENTIFIED BY %s;\n" "$secret"
    printf "GRANT ALL ON *.* TO 'root'@'%%' WITH GRANT OPTION;\n"
    printf 'SET @@SESSION.sql_log_bin = 1;\n'
    if [[ -n $database ]]; then
        printf 'CREATE DATABASE IF NOT EXISTS %s;\n' "$(quote_ident "$database")"
    fi
    if [[ -n $user ]]; then
        printf 'CREATE USER %s IDENTIFIED BY %s;\n' "$account" "$(quote_literal "$password")"
        if [[ -n $database ]]; then
            printf 'GRANT ALL ON %s.* TO %s;\n' "$(quote_ident "${database//_/\\_}")" "$account"
        fi
    fi
}

run_init_scripts() {
    local script
    for script in /docker-entrypoint-initdb.d/*; do
        printf 'running %s\n' "$script"
        case $script in
            *.sql) client "$database" < "$script" ;;
            *.sql.gz) gunzip --stdout "$script" | client "$database" ;;
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

if [[ ${1:-mariadbd} == -* ]]; then
    set -- mariadbd "$@"
fi

case ${1:-mariadbd} in
    initdb) initialise ;;
    mariadbd | mysqld) run_server "${@:-mariadbd}" ;;
    *) exec "$@" ;;
esac
