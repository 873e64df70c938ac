"""Notices: lines by which the nodes that hold a user are told something other than a message.

`<word> - - - <JSON>` on the node's channel, the word in the place of the target; several lines are one payload. It is heard by
who is routed at that moment and by nobody later: an edge that has lost its subscription does not hear of it.
"""

from __future__ import annotations

import msgspec
from redis.asyncio import Redis

import lua
from router.keys import Keys
from router.settings import Settings
from router.shards import shard_of_id


def notice(word: str, said: object) -> str:
    """Return a line: the word, and what it says of whom, as JSON."""
    # JSON escapes whatever would end the line.
    return f"{word} - - - {msgspec.json.encode(said).decode()}"


async def tell_nodes(redis: Redis, settings: Settings, user: str, *lines: str) -> list[str]:
    """Send the nodes that a user is routed to these lines, in one payload; return the nodes.

    Raises:
        RedisError, OSError: when it is unknown who was told.
    """
    keys = Keys(settings.prefix, shard_of_id(user, settings.shards))
    script = redis.register_script(lua.source("kick"))
    told: list[bytes] = await script(keys=[keys.nodes(), keys.route(user)], args=["\n".join(lines)])
    return [node.decode() for node in told]
