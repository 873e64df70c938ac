"""Redis' part: what is moved to its new shard, and what is dropped because it is found anew.

Moved are cursors that MongoDB may not have yet (`ack`), who was said to be online, and of shards that are no more the streams
that are kept for people. Each of these steps may be cut off anywhere and done again. What is moved from one stream to another
is appended there in one step with a note of how far it has come (`push:{s}:reshard`), so that nothing is there twice.

Dropped are counters, which are found anew in MongoDB; and routes, nodes and who is on them, for no node lives.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from redis.asyncio import Redis

import lua
from router.cluster_redis import client_at, every_primary
from router.keys import Keys
from router.settings import Settings
from router.shards import shard_of_id
from router.workers import ROLES

_KEYS_A_STEP: Final = 1_000
_ENTRIES_A_STEP: Final = 200

STREAMS: Final = ("in", "fast", "dead", "offline", "events", "trace")
"""Those that are moved; `out` is collect's own, and empty."""

_FOUND_ANEW: Final = ("seq", "route", "on", "info")
"""Kinds of keys, one a target, user or node."""


class Moved:
    """What is moved and dropped in Redis.

    Args:
        redis: where.
        settings: of the system as it was set up.
        shards: how many there are to be.
    """

    def __init__(self, redis: Redis, settings: Settings, shards: int) -> None:
        self._redis: Any = redis  # its types name the replies of every protocol at once
        self._prefix = settings.prefix
        self._ack_idle_ms = int(settings.ack_idle_s * 1000)
        self._shards = shards
        self._before = settings.shards
        self._move_cursors = redis.register_script(lua.source("cursor_set"))

    def _keys(self, shard: int) -> Keys:
        return Keys(self._prefix, shard)

    def all_shards(self) -> list[Keys]:
        """Return the names of all shards that there were or are to be."""
        return [self._keys(shard) for shard in range(max(self._before, self._shards))]

    def gone(self) -> list[Keys]:
        """Return the names of the shards that are no more."""
        return [self._keys(shard) for shard in range(self._shards, self._before)]

    async def named(self, kind: str) -> AsyncIterator[str]:
        """Yield the keys of a kind, such as `ack`, of all shards; one may come twice."""
        bases = {keys.base for keys in self.all_shards()}
        servers: Any = await every_primary(self._redis)
        for server in servers:
            async for found in server.scan_iter(match=f"{self._prefix}:{{*}}:{kind}:*", count=_KEYS_A_STEP):
                key = found.decode()
                if key[: key.index("}:") + 2] in bases:
                    yield key

    async def move_cursors(self, key: str) -> bool:
        """Move a user's cached cursors to the user's shard; tell whether they were elsewhere."""
        user = key.split(":ack:", 1)[1]
        target = self._keys(shard_of_id(user, self._shards)).ack(user)
        if target == key:
            return False
        pairs = [part for pair in (await self._redis.hgetall(key)).items() for part in pair]
        if pairs:
            await self._move_cursors(keys=[target] * (len(pairs) // 2), args=[self._ack_idle_ms, *pairs])
        await self.drop([key])
        return True

    async def move_online(self, keys: Keys) -> int:
        """Move those who were said to be online to their shards, and return how many were elsewhere.

        Dispatch finds them there without a route, and says of those who do not come back that they are offline.
        """
        moved = 0
        async for user, since in self._redis.hscan_iter(keys.online()):
            target = self._keys(shard_of_id(user.decode(), self._shards))
            if target.shard != keys.shard:
                await self._redis.hset(target.online(), user, since)
                await self._redis.hdel(keys.online(), user)
                moved += 1
        return moved

    async def move_entries(self, keys: Keys, stream: str) -> int:
        """Move some entries of a shard that is no more to another's stream; return how many, 0 when that was all.

        Args:
            keys: of that shard.
            stream: `dead`, `offline`, `events` or `trace`, or one of the lanes.
        """
        target = self._keys(keys.shard % self._shards)
        place = f"{stream}:{keys.shard}"
        last = await self._redis.hget(target.reshard(), place)
        start = f"({last.decode()}" if last else "-"
        entries = await self._redis.xrange(f"{keys.base}{stream}", min=start, count=_ENTRIES_A_STEP)
        if not entries:
            return 0
        owed = await self._owed(f"{keys.base}{stream}", [entry_id for entry_id, _ in entries])
        async with client_at(self._redis, target.base).pipeline(transaction=True) as pipe:
            for entry_id, fields in entries:
                if entry_id in owed:
                    pipe.xadd(f"{target.base}{stream}", fields)
            pipe.hset(target.reshard(), place, entries[-1][0])
            await pipe.execute()
        return len(entries)

    async def _owed(self, stream: str, ids: Sequence[bytes]) -> set[bytes]:
        """Return which entries somebody is still to read: all where nobody reads in a group."""
        groups = await self._redis.xinfo_groups(stream)
        if not groups:
            return set(ids)
        owed = {one for one in ids if any(_number(one) > _number(group["last-delivered-id"]) for group in groups)}
        for group in groups:
            pending = await self._redis.xpending_range(stream, group["name"], ids[0], ids[-1], len(ids))
            owed |= {one["message_id"] for one in pending}
        return owed

    async def drop(self, keys: Sequence[str]) -> None:
        """Remove keys, of whatever shards."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.unlink(key)
            await pipe.execute()

    async def forget_progress(self) -> None:
        """Remove the notes of how far streams have been moved."""
        await self.drop([keys.reshard() for keys in self.all_shards()])

    def left_over(self) -> list[str]:
        """Return the keys that nobody needs any more, but for those of `found_anew`."""
        names = [name for keys in self.all_shards() for name in (keys.nodes(), keys.leaving())]
        names += [self._keys(0).workers(role) for role in ROLES]
        for keys in self.gone():
            streams = [f"{keys.base}{stream}" for stream in STREAMS]
            names += [*streams, keys.out(), keys.online(), keys.era(), keys.pending(), *map(keys.lease, ROLES)]
        return names

    async def found_anew(self) -> AsyncIterator[list[str]]:
        """Yield the keys that are found anew when they are needed, some at a time."""
        some: list[str] = []
        for kind in _FOUND_ANEW:
            async for key in self.named(kind):
                some.append(key)
                if len(some) == _KEYS_A_STEP:
                    yield some
                    some = []
        if some:
            yield some


def _number(entry_id: bytes) -> tuple[int, int]:
    ms, _, count = entry_id.partition(b"-")
    return int(ms), int(count or 0)
