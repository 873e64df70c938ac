#!/bin/sh
# Tell a user that their order has left: append one message to Pushway.
#
#   REDIS_URL=redis://127.0.0.1:6390 ./append.sh alice 1042
set -eu
body="$(jq --null-input --compact-output --argjson order "$2" '{$order, text: "Your order is on its way 🚚 Schöne Grüße!"}')"
redis-cli -e -u "${REDIS_URL:-redis://127.0.0.1:6390}" XADD 'push:{0}:in' '*' \
    to "user:$1" \
    body "$body" \
    id "order-$2-shipped" # appended again with the same id, it is delivered once
