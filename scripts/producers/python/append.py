"""Tell a user that their order has left: append one message to Pushway."""

import json
import os
import sys

import redis

_, user, order = sys.argv
url = os.environ.get("REDIS_URL", "redis://127.0.0.1:6390")
with redis.Redis.from_url(url, decode_responses=True) as client:
    fields = {
        "to": f"user:{user}",
        "body": json.dumps({"order": int(order), "text": "Your order is on its way 🚚 Schöne Grüße!"}),
        "id": f"order-{order}-shipped",  # appended again with the same id, it is delivered once
    }
    print(client.xadd("push:{0}:in", fields))
