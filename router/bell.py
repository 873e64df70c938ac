"""Waiting for what is appended to a stream, without taking anything from it.

A script cannot block, so a worker waits with a plain XREAD that belongs to no group: harmless whoever is left waiting. It
begins at the beginning, because what stands in the stream is what is still to be done, and it brings what rings. So a message
that comes alone is not asked for once more; and of many, each costs Redis less than to read it in a script.

Nobody has looked at the lease meanwhile. Whoever goes on with what came shows the lease before anything is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from router.own_connection import OwnConnection, pack
from router.settings import Settings

_BRINGS_FIRST: Final = 32
"""Entries that come with a ring when nobody knows how long they are; as many are weighed to know."""

_GROWTH: Final = 8
"""How many times as many come with a ring behind one that brought as many as it could."""

_SUDDEN: Final = 8
"""How many times the budget of a batch a ring may bring where entries are suddenly of the longest."""


class Bell:
    """Tells what stands in a stream, as soon as anything does.

    Args:
        connection: the worker's own, which its writes go over too: they find out where it leads to a server that is no longer
            the primary.
        stream: its key.
        settings: `wait_ms`, cut where it would not leave the reply half of `redis_timeout_s`; and the budget of a batch.
    """

    def __init__(self, connection: OwnConnection, stream: str, settings: Settings) -> None:
        self._connection = connection
        self._stream = stream
        self._wait_ms = max(1, min(settings.wait_ms, int(settings.redis_timeout_s * 500)))
        self._budget_bytes = settings.read_max_bytes
        longest = max(1, settings.read_max_bytes // settings.body_max_bytes)
        self._first = min(_BRINGS_FIRST, longest, settings.batch_max)
        self._most = min(_SUDDEN * longest, settings.batch_max)
        self._brings = self._first
        self._usual_call = self._pack(self._first, self._wait_ms)

    def call(self, most_ms: int | None = None) -> bytes:
        """Return what asks for news, to be sent right behind a write that may be the last; `wait` is to follow it.

        Args:
            most_ms: how long to wait at most; None where nothing but news is waited for. At 0 nothing is to be asked.
        """
        if most_ms == 0:
            return b""
        if most_ms is None and self._brings == self._first:
            return self._usual_call
        return self._pack(self._brings, self._wait_ms if most_ms is None else min(self._wait_ms, most_ms))

    def _pack(self, count: int, wait_ms: int) -> bytes:
        return pack("XREAD", "COUNT", count, "BLOCK", wait_ms, "STREAMS", self._stream, "0-0")

    async def wait(self, most_ms: int | None = None) -> Sequence[Any]:
        """Return the first entries of the stream as soon as there are any: ids, and fields and values in turn.

        There are none after the longest wait: look in either case, which finds out whether the server is still the primary.
        `most_ms`, as of `call`, counts where that has not been sent already.

        Raises:
            RedisError: when Redis is away.
        """
        if not self._connection.owed:
            if most_ms == 0:
                return ()
            await self._connection.send(self.call(most_ms), 1)
        reply = await self._connection.receive()
        entries: Sequence[Any] = reply[0][1] if reply else ()
        self._expect(entries)
        return entries

    def _expect(self, entries: Sequence[Any]) -> None:
        """Have the next ring bring more than this one did, if it fits the budget."""
        count = len(entries)
        if count <= self._first // 2:
            self._brings = self._first
            return
        weighed = entries[-_BRINGS_FIRST:]
        size = sum([len(part) for _, flat in weighed for part in flat])
        fitting = self._budget_bytes * len(weighed) // size
        wanted = count * (_GROWTH if count >= self._brings else 2)
        self._brings = max(self._first, min(wanted, fitting, self._most))
