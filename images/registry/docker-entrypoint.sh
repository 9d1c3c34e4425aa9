#!/usr/bin/env bash
# docker-entrypoint.sh [server | COMMAND...]
set -euo pipefail

run_server() {
    # shellcheck disable=SC2206 # options are separated by spaces
    local -a options=(
        ${JAVA_HEAP_OPTS:--Xms64m -Xmx192m}
        -XX:+UseSerialGC
        -XX:TieredStopAtLevel=1
        -XX:ReservedCodeCacheSize=48m
        -XX:-UsePerfData
        -XX:+ExitOnOutOfMemoryError
        -Dquarkus.http.host=0.0.0.0
        ${JAVA_OPTS:-}
    )
    exec java "${options[@]}" -jar /opt/registry/quarkus-run.jar
}

case ${1:-server} in
    server) run_server ;;
    *) exec "$@" ;;
esac
