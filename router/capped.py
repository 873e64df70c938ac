"""Streams that are kept for people, held to bytes as well as to entries: dead letters and offline reports.

Whoever adds to one has Redis cap it to so many entries. An entry may be of megabytes, though: ten thousand dead letters of a
hostile producer, or of one with a mistake, would fill a Redis that evicts nothing, and producers would be refused until
somebody dropped them. So behind what was added the stream is measured, and while it is too large its older half goes.

Redis measures a node of the stream at a time, of which a large entry has one for itself: some 100 µs for 64 MiB. Where it does
not let itself be asked (an ACL without `memory|usage`), that is told once, and entries alone count.
Source: https://redis.io/docs/latest/commands/memory-usage/
"""

from __future__ import annotations

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

log = structlog.get_logger(__name__)


class Capped:
    """A stream that may hold so many bytes.

    Args:
        redis: where it is.
        key: its key.
        max_bytes: of memory.
        look_every: it is measured once it may have grown by so many bytes since.
    """

    def __init__(self, redis: Redis, key: str, max_bytes: int, look_every: int = 1) -> None:
        self._redis = redis
        self._key = key
        self._max_bytes = max_bytes
        self._look_every = look_every
        self._grown = 0
        self._measurable = True

    async def grew(self, most_bytes: int) -> None:
        """Make room for newer ones where what was added just now, so many bytes at most, is too much.

        Raises:
            RedisError: when Redis is away; it is measured again the next time.
        """
        self._grown += most_bytes
        if self._measurable and self._grown >= self._look_every:
            try:
                await self._hold()
            except ResponseError as exc:
                self._measurable = False
                log.warning("stream_unmeasured", key=self._key, error=str(exc))
            self._grown = 0

    async def _hold(self) -> None:
        while (await self._redis.memory_usage(self._key, samples=0) or 0) > self._max_bytes:
            length: int = await self._redis.xlen(self._key)
            if not length:
                return
            # The older half, not the oldest one by one: a flood would have each of its letters measured and trimmed for.
            await self._redis.xtrim(self._key, maxlen=length // 2, approximate=False)
            log.warning("stream_halved", key=self._key, entries=length // 2, max_bytes=self._max_bytes)
