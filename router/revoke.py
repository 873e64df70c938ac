"""Revoking: written to MongoDB, told to every edge, and answered when what is issued from now on is good.

    write `revoked` ──▶ notice to the nodes ──▶ wait for the second to begin ──▶ answer

`revoked - - - {"id":"user:alice","before":…,"expires_at":…}` goes to the channel of every node, which edges probe to be sure
that they hear it, and to `all`, which a node hears that is not listed yet. It may be heard twice, and heard again.

Whoever dies on the way may have written and told nobody: edges read the list every `revocation_refresh_s`. Who does not see the
answer revokes again, which does no harm.
"""

from __future__ import annotations

import time
from typing import Final

import anyio
from redis.asyncio import Redis

import lua
from router.errors import PushwayError
from router.keys import Keys
from router.notices import notice
from router.redis_client import OUTAGE
from router.revocation import Revocation
from router.revoked import Revoked
from router.settings import Settings
from router.shards import shard_of_id
from router.targets import ALL

WORD: Final = "revoked"
"""Stands in the place of the target."""


_EARLY_S: Final = 0.002
"""By how much a timer of a loop may ring too early: it counts in milliseconds, from when the loop last looked at the clock."""


class NotTold(PushwayError):
    """The revocation is written, and holds for whoever comes; edges hear of it when they next read the list."""


async def revoke(redis: Redis, revoked: Revoked, settings: Settings, one: Revocation) -> list[str]:
    """Revoke, and return the nodes that were told: all that there are. May be repeated.

    Returns when the second has begun from which on issued tokens are good, after a second and 2 ms at most.

    Raises:
        PyMongoError: when it is unknown whether it is written; repeat it.
        NotTold: when it is written, and it is unknown who was told; repeat it.
    """
    await revoked.add(one)
    try:
        nodes = await _tell(redis, settings, one)
    except OUTAGE as exc:
        seconds = settings.revocation_refresh_s
        raise NotTold(f"it is written, but the edges could not be told and find it within {seconds:g} s: {exc}") from exc
    # A clock that is set back meanwhile makes it no longer than that.
    await anyio.sleep(min(max(0.0, one.before - time.time()), 1.0) + _EARLY_S)
    return nodes


async def _tell(redis: Redis, settings: Settings, one: Revocation) -> list[str]:
    """Tell every node.

    Raises:
        RedisError, OSError: when it is unknown who was told.
    """
    keys = Keys(settings.prefix, shard_of_id(ALL, settings.shards))
    script = redis.register_script(lua.source("revoke"))
    told: list[bytes] = await script(keys=[keys.nodes()], args=[notice(WORD, one)])
    return [node.decode() for node in told]
