#!/usr/bin/env bash
# Runs when the image is built: starts the broker and Connect as a stack does, with authentication everywhere, and keeps
# the classes that each has loaded as its class-data archive. The broker writes to a scratch copy, the image's storage stays untouched.
set -euo pipefail

readonly deadline_s=120
scratch=$(mktemp -d)
jaas='org.apache.kafka.common.security.plain.PlainLoginModule required username="train" password="train" user_train="train";'

fail() {
    printf 'train: %s\n' "$*" >&2
    tail -n 40 "$scratch"/*.log >&2
    exit 1
}

await() {
    local what=$1
    shift
    local end=$((SECONDS + deadline_s))
    until "$@"; do
        ((SECONDS < end)) || fail "$what: not seen within $deadline_s s"
        sleep 0.2
    done
}

# rest METHOD PATH [BODY]: prints the answer; there is no curl in the image.
rest() {
    local method=$1 path=$2 body=${3:-}
    exec 3<> /dev/tcp/127.0.0.1/8083
    printf '%s %s HTTP/1.0\r\nAuthorization: Basic %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' \
        "$method" "$path" "$(printf train:train | base64)" "${#body}" "$body" >&3
    cat <&3
    exec 3<&-
}

logged() { grep -q "$2" "$scratch/$1.log"; }
connect_answers() { (rest GET /connector-plugins) 2> /dev/null | grep -q PostgresConnector; }

stop() {
    kill -TERM "$2"
    # The exit status of a JVM ended by SIGTERM is 143.
    wait "$2" || [[ $? == 143 ]] || fail "$1 did not stop in order"
    [[ -s /opt/kafka/cds/$1.jsa ]] || fail "$1 left no class-data archive"
}

cp -r /var/lib/kafka/data "$scratch/data"

export CHANGEPROOF_TRAIN=1
env KAFKA_LOG_DIRS="$scratch/data" \
    KAFKA_LISTENERS=SASL_PLAINTEXT://:9092,CONTROLLER://localhost:9093 \
    KAFKA_ADVERTISED_LISTENERS=SASL_PLAINTEXT://localhost:9092 \
    KAFKA_INTER_BROKER_LISTENER_NAME=SASL_PLAINTEXT \
    KAFKA_LISTENER_NAME_SASL__PLAINTEXT_PLAIN_SASL_JAAS_CONFIG="$jaas" \
    docker-entrypoint.sh broker > "$scratch/broker.log" 2>&1 &
broker=$!
await 'the broker' logged broker 'Kafka Server started'

client_settings=()
for role in '' PRODUCER_ CONSUMER_ ADMIN_; do
    client_settings+=("CONNECT_${role}SECURITY_PROTOCOL=SASL_PLAINTEXT" "CONNECT_${role}SASL_MECHANISM=PLAIN" "CONNECT_${role}SASL_JAAS_CONFIG=$jaas")
done
env "${client_settings[@]}" CONNECT_REST_USER=train CONNECT_REST_PASSWORD=train \
    docker-entrypoint.sh connect > "$scratch/connect.log" 2>&1 &
connect=$!
await 'Connect' connect_answers

# Validation loads the connectors' classes and their drivers, and fails only for want of a database.
for kind in postgresql.Postgres mysql.MySql mariadb.MariaDb; do
    rest PUT "/connector-plugins/${kind#*.}Connector/config/validate" '{
        "connector.class": "io.debezium.connector.'"$kind"'Connector", "name": "train", "topic.prefix": "train", "database.hostname": "127.0.0.1",
        "database.port": "9", "database.user": "u", "database.password": "p", "database.dbname": "d", "plugin.name": "pgoutput",
        "database.server.id": "1", "schema.history.internal.kafka.bootstrap.servers": "localhost:9092", "schema.history.internal.kafka.topic": "h"}' > "$scratch/validate-$kind.log"
    grep -q '200 OK' "$scratch/validate-$kind.log" || fail "the $kind connector was not validated"
done

stop connect "$connect"
stop broker "$broker"
rm -rf "$scratch" /tmp/changeproof
