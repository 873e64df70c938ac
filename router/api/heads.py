"""The head of a target, for people: the highest seq that was handed on."""

from __future__ import annotations

from redis.asyncio import Redis

from router.inbox import Inbox
from router.keys import Keys
from router.settings import Settings
from router.shards import shard_of_target


async def read_head(redis: Redis, inbox: Inbox, settings: Settings, target: str) -> int:
    """Return the head of a target; 0 where there never was one.

    Raises:
        RedisError, PyMongoError: in an outage.
    """
    keys = Keys(settings.prefix, shard_of_target(target, settings.shards))
    async with redis.pipeline(transaction=False) as pipe:
        pipe.hmget(keys.seq(target), "handed", "era")
        pipe.hget(keys.era(), "era")
        (handed, its_era), era = await pipe.execute()
    # A head of another era counts for nothing: MongoDB's newest does.
    if handed is not None and handed.isdigit() and its_era == era:
        return int(handed)
    return await inbox.newest_above(target, 0)
