#!/usr/bin/env bash
# docker-entrypoint.sh [broker | connect | format | COMMAND...]
# The contract of the official images: KAFKA_FOO_BAR (broker) and CONNECT_FOO_BAR (Connect) set foo.bar; `__` is `_` and `___` is `-`.
set -euo pipefail

readonly home=/opt/kafka
readonly data=${KAFKA_LOG_DIRS:-/var/lib/kafka/data}
readonly default_cluster_id=5L6g3nShT-eMCtK--X86sw
readonly run=/tmp/changeproof

# Not settings, although they bear the prefix.
readonly not_settings=' KAFKA_HEAP_OPTS KAFKA_OPTS KAFKA_JVM_PERFORMANCE_OPTS KAFKA_LOG4J_OPTS KAFKA_LOG4J_ROOT_LOGLEVEL KAFKA_VERSION CONNECT_REST_USER CONNECT_REST_PASSWORD '

# A property file's own escapes would otherwise change a value that has a backslash, a line break or leading space in it.
settings_from_env() {
    local prefix=$1 name key value
    while IFS= read -r name; do
        [[ $not_settings != *" $name "* ]] || continue
        key=${name#"$prefix"}
        key=${key,,}
        key=${key//___/-}
        key=${key//__/$'\001'}
        key=${key//_/.}
        key=${key//$'\001'/_}
        value=${!name}
        value=${value//\\/\\\\}
        value=${value//$'\n'/\\n}
        [[ $value != ' '* ]] || value="\\$value"
        printf '%s=%s\n' "$key" "$value"
    done < <(compgen -e "$prefix")
}

# The order of the class path must be the same in every container: the class-data archive is only valid for the one it was made with.
class_path() {
    local -a jars=("$home"/libs/*.jar)
    local IFS=:
    printf '%s' "${jars[*]}"
}

# The optimising compiler waits for code that is four times as hot as by default: most containers live for minutes, in which
# it would take a quarter of the machine's time and give little back.
readonly later_c2='-XX:Tier4InvocationThreshold=20000 -XX:Tier4MinInvocationThreshold=2400 -XX:Tier4CompileThreshold=60000 -XX:Tier4BackEdgeThreshold=160000'

java_options() {
    local archive=$1 default_heap=$2
    # shellcheck disable=SC2206 # options are separated by spaces
    options=(
        ${KAFKA_HEAP_OPTS:-$default_heap}
        ${KAFKA_JVM_PERFORMANCE_OPTS:--XX:+UseSerialGC $later_c2}
        -XX:+ExitOnOutOfMemoryError
        -XX:-UsePerfData
        -Djava.awt.headless=true
        ${KAFKA_LOG4J_OPTS:--Dlog4j2.configurationFile=$home/config/log4j2.properties}
        ${KAFKA_OPTS:-}
    )
    if [[ -n ${CHANGEPROOF_TRAIN:-} ]]; then
        options+=("-XX:ArchiveClassesAtExit=$archive")
    elif [[ -e $archive ]]; then
        options+=("-XX:SharedArchiveFile=$archive" -Xshare:auto)
    fi
}

broker_configuration() {
    { cat "$home/config/broker.properties" && settings_from_env KAFKA_; } > "$run/broker.properties"
}

format_storage() {
    java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$(class_path)" \
        "-Dlog4j2.configurationFile=$home/config/log4j2.properties" \
        kafka.tools.StorageTool format --cluster-id "${CLUSTER_ID:-$default_cluster_id}" --config "$run/broker.properties" --ignore-formatted
}

needs_format() {
    local wanted=${CLUSTER_ID:-}
    [[ ! -s $data/meta.properties ]] || { [[ -n $wanted ]] && ! grep -qxF "cluster.id=$wanted" "$data/meta.properties"; }
}

run_broker() {
    broker_configuration
    if needs_format; then
        # Only a storage that was formatted with the image, and never used, gives way to another cluster id.
        if [[ -e $data/changeproof.pristine ]]; then
            rm -f "$data"/meta.properties "$data"/bootstrap.checkpoint
        fi
        format_storage
    fi
    rm -f "$data/changeproof.pristine"
    java_options "$home/cds/broker.jsa" '-Xms256m -Xmx1g'
    exec java "${options[@]}" -cp "$(class_path)" kafka.Kafka "$run/broker.properties"
}

run_connect() {
    java_options "$home/cds/connect.jsa" '-Xms128m -Xmx512m'
    # A database that is started again may have another address, and Java keeps one for 30 s.
    options+=(-Dsun.net.inetaddr.ttl=1)
    if [[ -n ${CONNECT_REST_USER:-} && -n ${CONNECT_REST_PASSWORD:-} ]]; then
        export CONNECT_REST_EXTENSION_CLASSES=${CONNECT_REST_EXTENSION_CLASSES:-org.apache.kafka.connect.rest.basic.auth.extension.BasicAuthSecurityRestExtension}
        printf '%s=%s\n' "$CONNECT_REST_USER" "${CONNECT_REST_PASSWORD//\\/\\\\}" > "$run/rest.passwords"
        printf 'KafkaConnect {\n  %s required file="%s";\n};\n' \
            org.apache.kafka.connect.rest.basic.auth.extension.PropertyFileLoginModule "$run/rest.passwords" > "$run/jaas.conf"
        options+=("-Djava.security.auth.login.config=$run/jaas.conf")
        # Since JDK-8284910 Java blanks a password once its callback is garbage, which in compiled code it may be while the password is still being
        # copied: of some hundred thousand requests one was refused. The interpreter keeps the callback until the method returns.
        local getter=javax.security.auth.callback.PasswordCallback::getPassword
        options+=(-XX:CompileCommand=quiet "-XX:CompileCommand=dontinline,$getter" "-XX:CompileCommand=exclude,$getter")
    fi
    { cat "$home/config/connect.properties" && settings_from_env CONNECT_; } > "$run/connect.properties"
    exec java "${options[@]}" -cp "$(class_path)" org.apache.kafka.connect.cli.ConnectDistributed "$run/connect.properties"
}

(umask 077 && mkdir -p "$run")

case ${1:-broker} in
    broker) run_broker ;;
    connect) run_connect ;;
    format)
        broker_configuration
        format_storage
        touch "$data/changeproof.pristine"
        ;;
    *) exec "$@" ;;
esac
