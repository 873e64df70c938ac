"""Redis' copy of cursors, `push:{s}:ack:<user>`: what a device that comes back soon begins from without asking MongoDB.

It is written only when MongoDB has the same, so it may be older than that and never newer. It expires `ack_idle_s` after the
last write, however often it is read: a device that only ever reads is looked up in MongoDB once in that time, which keeps its
cursor from being taken for a forgotten one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Final

from redis.asyncio import Redis

import lua
from router.cursors import CursorKey
from router.keys import Keys
from router.settings import Settings
from router.shards import shard_of_id

_SEQ_MAX_DIGITS: Final = 16


class CursorCache:
    """The cursors in Redis.

    Args:
        redis: where they stand.
        settings: shards, `ack_idle_s`.
    """

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._keys = [Keys(settings.prefix, shard) for shard in range(settings.shards)]
        self._ttl_ms = int(settings.ack_idle_s * 1000)
        self._script = redis.register_script(lua.source("cursor_set"))

    async def find(self, keys: Collection[CursorKey]) -> dict[CursorKey, int]:
        """Return the cursors that are cached, in one round trip.

        Raises:
            RedisError, OSError: when Redis is away.
        """
        asked = list(keys)
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in asked:
                pipe.hget(self._key(key), _field(key))
            # A key of another type is an answer like any other here: that cursor is not cached.
            found = await pipe.execute(raise_on_error=False)
        return {key: int(seq) for key, seq in zip(asked, found, strict=True) if _is_seq(seq)}

    async def advance(self, seqs: Mapping[CursorKey, int]) -> None:
        """Move cached cursors forward to what MongoDB has; a lower seq moves nothing back.

        Raises:
            RedisError, OSError: when it is unknown which have moved.
        """
        shards: defaultdict[int, list[CursorKey]] = defaultdict(list)
        for key in seqs:
            shards[shard_of_id(key.user, len(self._keys))].append(key)
        for some in shards.values():
            pairs = [word for key in some for word in (_field(key), seqs[key])]
            await self._script(keys=[self._key(key) for key in some], args=[self._ttl_ms, *pairs])

    def _key(self, key: CursorKey) -> str:
        return self._keys[shard_of_id(key.user, len(self._keys))].ack(key.user)


def _field(key: CursorKey) -> str:
    return f"{key.device} {key.target}"


def _is_seq(found: object) -> bool:
    return isinstance(found, bytes) and found.isdigit() and len(found) <= _SEQ_MAX_DIGITS
