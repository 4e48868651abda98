#!/usr/bin/env bash
# Ask a running server from a shell: it describes its own services, so that no file is needed.
#
#     pip install buf-bin && examples/buf_curl.sh localhost:8001
set -euo pipefail
server=http://${1:-localhost:8001}

ask() { # METHOD JSON
  buf curl --protocol grpc --http2-prior-knowledge --data "$2" "$server/$1"
}

# Whether it is ready; "" asks for the whole server.
ask grpc.health.v1.Health/Check '{"service": "fuserank.v1.RecommenderService"}'

# What it serves, and the fields by which it knows users.
ask fuserank.v1.RecommenderService/GetBundleInfo '{}'

# The five best items of a user whom it knows, with their titles.
ask fuserank.v1.RecommenderService/Recommend \
  '{"user": {"fields": {"user_id": {"stringValue": "42"}}}, "k": 5, "includeAttributes": true}'

# Two users over one stream.
ask fuserank.v1.RecommenderService/RecommendStream '
  {"id": 1, "request": {"user": {"fields": {"user_id": {"stringValue": "42"}}}, "k": 2}}
  {"id": 2, "request": {"user": {"fields": {"user_id": {"stringValue": "7"}}}, "k": 2}}'
