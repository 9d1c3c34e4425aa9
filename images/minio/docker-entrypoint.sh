#!/bin/sh
# As the official image: what is not `minio` is an argument of it.
set -eu

if [ "${1:-minio}" != minio ]; then
    set -- minio "$@"
fi
exec "$@"
