"""Waiting for news on a stream without taking anything from it.

A worker takes entries only through a script that checks its lease (lua/take.lua says why), and a script cannot block. So it
waits here first, with a plain XREAD that belongs to no group: harmless whoever is left waiting.
"""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from router.settings import Settings

_START = b"0-0"


class Bell:
    """Tells when a stream has an entry that was not there before.

    The worker trims what it is done with, so whatever stands in the stream behind the last ring is news.

    Args:
        redis: the worker's own client. Its connections are used in turn, so one that leads to a server which is no longer the
            primary is found out by the next write.
        stream: key of the stream.
        settings: `wait_ms`, cut where it would not leave the reply half of `redis_timeout_s`.
    """

    def __init__(self, redis: Redis, stream: str, settings: Settings) -> None:
        self._redis = redis
        self._stream = stream
        self._wait_ms = max(1, min(settings.wait_ms, int(settings.redis_timeout_s * 500)))
        self._position = _START

    async def wait(self) -> None:
        """Return at the next entry, or after the longest wait without one; look at the stream in either case.

        Raises:
            RedisError: when Redis is away.
        """
        reply: Any = await self._redis.xread({self._stream: self._position}, count=1, block=self._wait_ms)
        # After silence it begins at the start again: a stream that Redis lost counts from lower ids than we remember.
        self._position = reply[0][1][0][0] if reply else _START
