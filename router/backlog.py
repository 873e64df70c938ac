"""What waits in a shard's streams, told as figures by whoever works on the shard.

One look is one round trip of a few commands that do not depend on how much waits. Who holds no lease tells nothing, so no two
processes ever tell of one stream; and while Redis does not answer nothing is told either, for a figure does not show its age.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import anyio
from redis.asyncio import Redis

from router.metrics import STREAM_ENTRIES, STREAM_OLDEST_SECONDS, STREAM_PENDING
from router.redis_client import OUTAGE

LOOK_EVERY_S: Final = 5.0
"""As often as Prometheus looks at most."""

Work = Callable[[str], Awaitable[None]]
"""What is done while a lease is held; see `router.lease`."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream to look at.

    Attributes:
        name: the last part of its key, for the label.
        key: its key.
        group: who is to be done with its entries; "" where that is nobody, and only its length says anything.
        in_hand: key of the hash that has a field for each message in hand; "" where there is none.
    """

    name: str
    key: str
    group: str = ""
    in_hand: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What was found in a stream.

    Attributes:
        entries: its length.
        pending: how many messages are in hand.
        oldest_s: the age of the first.
    """

    entries: int
    pending: int
    oldest_s: float


class Backlog:
    """The figures of a shard's streams.

    Args:
        redis: where the streams are.
        shard: its number.
        streams: those of the role that the lease is for.
    """

    def __init__(self, redis: Redis, shard: int, streams: Sequence[Stream]) -> None:
        self._redis = redis
        self._shard = shard
        self._streams = streams

    def beside(self, work: Work) -> Work:
        """Return work that has the figures kept while it goes on."""

        async def both(held: str) -> None:
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._run)
                    await work(held)
                    tasks.cancel_scope.cancel()
            finally:
                self.forget()

        return both

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except OUTAGE:
                # Whoever works here meets it too, and says so.
                self.forget()
            await anyio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Look once, and tell.

        Raises:
            RedisError, OSError: when Redis is away, or busy.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            for stream in self._streams:
                pipe.xlen(stream.key)
                _ = pipe.hlen(stream.in_hand) if stream.in_hand else pipe.xpending(stream.key, stream.group or "-")
                pipe.xrange(stream.key, count=1)
            time, *replies = await pipe.execute(raise_on_error=False)
        for reply in (time, *replies):
            # A group that is not there yet is an answer like any other; BUSY and LOADING are none.
            if isinstance(reply, Exception) and not str(reply).startswith("NOGROUP"):
                raise reply
        seconds, micros = time
        for stream, reply in zip(self._streams, zip(*[iter(replies)] * 3, strict=True), strict=True):
            self._tell(stream, read_waiting(reply, (seconds * 1_000_000 + micros) // 1_000))

    def _tell(self, stream: Stream, waiting: Waiting) -> None:
        place = (stream.name, self._shard)
        STREAM_ENTRIES.labels(*place).set(waiting.entries)
        if stream.group:
            STREAM_PENDING.labels(*place).set(waiting.pending)
            STREAM_OLDEST_SECONDS.labels(*place).set(waiting.oldest_s)

    def forget(self) -> None:
        """Tell nothing any more."""
        for stream in self._streams:
            for figure in (STREAM_ENTRIES, STREAM_PENDING, STREAM_OLDEST_SECONDS):
                figure.remove(stream.name, self._shard)


def read_waiting(reply: Sequence[Any], now_ms: int) -> Waiting:
    """Return what XLEN, HLEN or XPENDING, and XRANGE with COUNT 1 say together; XPENDING fails where there is no group."""
    length, in_hand, first = reply
    pending = 0 if isinstance(in_hand, Exception) else in_hand if isinstance(in_hand, int) else in_hand["pending"]
    oldest_ms = int(first[0][0].partition(b"-")[0]) if first else now_ms
    return Waiting(length, pending, max(0, now_ms - oldest_ms) / 1000)
