"""Waiting for news on a stream without taking anything from it.

A worker takes entries only through a script that checks its lease (lua/take.lua says why), and a script cannot block. So it
waits here first, with a plain XREAD that belongs to no group: harmless whoever is left waiting.
"""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

_START = b"0-0"


class Bell:
    """Tells when a stream has an entry that was not there before.

    The worker trims what it is done with, so whatever stands in the stream behind the last ring is news.

    Args:
        redis: a client whose reply timeout is longer than `wait_ms`.
        stream: key of the stream.
        wait_ms: longest wait.
    """

    def __init__(self, redis: Redis, stream: str, wait_ms: int) -> None:
        self._redis = redis
        self._stream = stream
        self._wait_ms = wait_ms
        self._position = _START

    async def wait(self) -> None:
        """Return at the next entry, or after `wait_ms` without one; look at the stream in either case.

        Raises:
            RedisError: when Redis is away.
        """
        reply: Any = await self._redis.xread({self._stream: self._position}, count=1, block=self._wait_ms)
        # After silence it begins at the start again: a stream that Redis lost counts from lower ids than we remember.
        self._position = reply[0][1][0][0] if reply else _START
