#!/usr/bin/env bash
# Runs when the image is built: starts the server, commits to a table, and keeps the classes that were loaded as the class-data archive.
set -euo pipefail

readonly deadline_s=120
scratch=$(mktemp -d)

fail() {
    printf 'train: %s\n' "$*" >&2
    tail -n 40 "$scratch/server.log" >&2
    exit 1
}

# rest METHOD PATH [BODY]: prints the answer; there is no curl in the image.
rest() {
    local body=${3:-}
    exec 3<> /dev/tcp/127.0.0.1/8181
    printf '%s %s HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' "$1" "$2" "${#body}" "$body" >&3
    cat <&3
    exec 3<&-
}

succeeds() { grep -q '^HTTP/1.[01] 200' <<< "$(rest "$@" 2> /dev/null)"; }

env CHANGEPROOF_TRAIN=1 \
    CATALOG_URI="jdbc:sqlite:$scratch/catalog.db?journal_mode=WAL" \
    CATALOG_WAREHOUSE="$scratch/warehouse" \
    CATALOG_IO__IMPL=org.apache.iceberg.io.ResolvingFileIO \
    CATALOG_S3_ENDPOINT=http://127.0.0.1:9 \
    CATALOG_S3_PATH__STYLE__ACCESS=true \
    AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=train AWS_SECRET_ACCESS_KEY=train \
    docker-entrypoint.sh server > "$scratch/server.log" 2>&1 &
server=$!

until (succeeds GET /v1/config); do
    ((SECONDS < deadline_s)) || fail "the server does not answer within $deadline_s s"
    sleep 0.2
done
readonly schema='{"type":"struct","fields":[{"id":1,"name":"id","type":"long","required":true}]}'
succeeds POST /v1/namespaces '{"namespace":["train"]}' || fail 'no namespace was created'
succeeds POST /v1/namespaces/train/tables '{"name":"t","schema":'"$schema"'}' || fail 'no table was created'
succeeds POST /v1/namespaces/train/tables/t '{"requirements":[],"updates":[{"action":"set-properties","updates":{"a":"b"}}]}' || fail 'no change was committed'
# A table in S3, where nothing answers: the client's classes are loaded before it fails.
rest POST /v1/namespaces/train/tables '{"name":"s3","location":"s3://train/s3","schema":'"$schema"'}' > /dev/null
grep -q 'software.amazon.awssdk.*Connection refused' "$scratch/server.log" || fail 'S3 was not tried'

kill -TERM "$server"
# The exit status of a JVM ended by SIGTERM is 143.
wait "$server" || [[ $? == 143 ]] || fail 'the server did not stop in order'
[[ -s /opt/iceberg-rest/server.jsa ]] || fail 'the server left no class-data archive'
rm -rf "$scratch"
