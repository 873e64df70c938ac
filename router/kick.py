"""Ending a user's sessions: the line by which the nodes that hold the user are told to close them.

`kicked - - - {"user":…,"code":4502,"reason":…}` on the node's channel (`edge.kicked`). It is heard by who is routed at that
moment and by nobody later: a session that is being registered just then may slip through, and so may those of an edge that has
lost its subscription. Who wants to be sure looks whether the routes go, and tells them again.
"""

from __future__ import annotations

from typing import Final

import msgspec
from redis.asyncio import Redis

import lua
from router.keys import Keys
from router.settings import Settings
from router.shards import shard_of_id

KICKED: Final = 4502
"""The close code, of those that a client does not come back from."""


async def kick(redis: Redis, settings: Settings, user: str, reason: str) -> list[str]:
    """Have the user's sessions closed, and return the nodes that were told.

    Args:
        redis: where the routes are.
        settings: prefix and shards.
        user: checked.
        reason: what the clients are told, in a few words.

    Raises:
        RedisError, OSError: when it is unknown who was told.
    """
    keys = Keys(settings.prefix, shard_of_id(user, settings.shards))
    # JSON escapes whatever would end the line.
    said = msgspec.json.encode({"user": user, "code": KICKED, "reason": reason}).decode()
    script = redis.register_script(lua.source("kick"))
    told: list[bytes] = await script(keys=[keys.nodes(), keys.route(user)], args=[f"kicked - - - {said}"])
    return [node.decode() for node in told]
