"""Waiting for news on streams without taking anything from them.

A worker takes entries only through a script that checks its lease (lua/take.lua says why), and a script cannot block. So it
waits here first, with a plain XREAD that belongs to no group: harmless whoever is left waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from router.settings import Settings

_START = b"0-0"


class Bell:
    """Tells when a stream has an entry that was not there before.

    The worker trims what it is done with, so whatever stands in a stream behind the last ring is news.

    Args:
        redis: the worker's own client. Its connections are used in turn, so one that leads to a server which is no longer the
            primary is found out by the next write.
        streams: keys of the streams, all of one shard.
        settings: `wait_ms`, cut where it would not leave the reply half of `redis_timeout_s`.
    """

    def __init__(self, redis: Redis, streams: Sequence[str], settings: Settings) -> None:
        self._redis = redis
        self._wait_ms = max(1, min(settings.wait_ms, int(settings.redis_timeout_s * 500)))
        self._positions = dict.fromkeys(streams, _START)

    async def wait(self) -> Sequence[str]:
        """Return the streams that have news; or all of them after the longest wait without any: look at them in either case.

        Raises:
            RedisError: when Redis is away.
        """
        positions: dict[Any, Any] = {**self._positions}
        reply: Any = await self._redis.xread(positions, count=1, block=self._wait_ms)
        if not reply:
            # From the start again: a stream that Redis lost counts from lower ids than we remember.
            self._positions = dict.fromkeys(self._positions, _START)
            return list(self._positions)
        rung = {stream.decode(): entries[0][0] for stream, entries in reply}
        self._positions.update(rung)
        return list(rung)
