#!/usr/bin/env bash
# docker-entrypoint.sh [server | COMMAND...]
set -euo pipefail

readonly home=/opt/iceberg-rest
readonly archive=$home/server.jsa

# The order of the class path must be the same in every container: the class-data archive is only valid for the one it was made with.
class_path() {
    local -a jars=("$home"/libs/*.jar)
    local IFS=:
    printf '%s' "${jars[*]}"
}

run_server() {
    # shellcheck disable=SC2206 # options are separated by spaces
    local -a options=(
        ${JAVA_HEAP_OPTS:--Xms32m -Xmx96m}
        -XX:+UseSerialGC
        -XX:TieredStopAtLevel=1
        -XX:ReservedCodeCacheSize=32m
        -XX:-UsePerfData
        -XX:+ExitOnOutOfMemoryError
        -Dorg.slf4j.simpleLogger.showDateTime=true
        -Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd\'T\'HH:mm:ss.SSSX
        ${JAVA_OPTS:-}
    )
    if [[ -n ${CHANGEPROOF_TRAIN:-} ]]; then
        options+=("-XX:ArchiveClassesAtExit=$archive")
    else
        options+=("-XX:SharedArchiveFile=$archive" -Xshare:auto)
    fi
    exec java "${options[@]}" -cp "$(class_path)" org.apache.iceberg.rest.RESTCatalogServer
}

case ${1:-server} in
    server) run_server ;;
    *) exec "$@" ;;
esac
