"""Waiting for news on streams without taking anything from them.

A worker takes entries only through a script that checks its lease (lua/take.lua says why), and a script cannot block. So it
waits here first, with a plain XREAD that belongs to no group: harmless whoever is left waiting.
"""

from __future__ import annotations

from collections.abc import Sequence

from redis.asyncio import Redis

from router.own_connection import OwnConnection, pack
from router.settings import Settings

_START = b"0-0"


class Bell:
    """Tells when a stream has an entry that was not there before.

    The worker trims what it is done with, so whatever stands in a stream behind the last ring is news.

    Args:
        redis: whose encoding is used.
        connection: the worker's own, which its writes go over too: they find out where it leads to a server that is no longer
            the primary.
        streams: keys of the streams, all of one shard.
        settings: `wait_ms`, cut where it would not leave the reply half of `redis_timeout_s`.
    """

    def __init__(self, redis: Redis, connection: OwnConnection, streams: Sequence[str], settings: Settings) -> None:
        self._redis = redis
        self._connection = connection
        self._wait_ms = max(1, min(settings.wait_ms, int(settings.redis_timeout_s * 500)))
        self._positions = dict.fromkeys(streams, _START)

    def call(self, most_ms: int | None = None) -> bytes:
        """Return what asks for news, to be sent right behind a write that may be the last; `wait` is to follow it.

        Args:
            most_ms: how long to wait at most; None where nothing but news is waited for. At 0 nothing is to be asked.
        """
        if most_ms == 0:
            return b""
        wait_ms = self._wait_ms if most_ms is None else min(self._wait_ms, most_ms)
        streams = self._positions
        return pack(self._redis, "XREAD", "COUNT", 1, "BLOCK", wait_ms, "STREAMS", *streams, *streams.values())

    async def wait(self, most_ms: int | None = None) -> Sequence[str]:
        """Return the streams that have news; or all of them after the longest wait without any: look at them in either case.

        `most_ms`, as of `call`, counts where that has not been sent already.

        Raises:
            RedisError: when Redis is away.
        """
        if not self._connection.owed:
            if most_ms == 0:
                return list(self._positions)
            await self._connection.send(self.call(most_ms), 1)
        reply = await self._connection.receive()
        if not reply:
            # From the start again: a stream that Redis lost counts from lower ids than we remember.
            self._positions = dict.fromkeys(self._positions, _START)
            return list(self._positions)
        rung = {stream.decode(): entries[0][0] for stream, entries in reply}
        self._positions.update(rung)
        return list(rung)
