"""The cursors of the devices on this edge: looked up when a device comes, written behind when it acknowledges.

Looking up is batched naturally: what was asked while `READERS` look-ups were under way makes up the next. A look-up is one
round trip to Redis and, for what is not there, one query to MongoDB; a device that neither knows begins, durably, where the
session says. Whatever this edge has not written yet counts too, so a device that comes back to it goes on where it stopped.

Acks are kept in memory (`edge.acks`) and written every `cursor_flush_s`, or at once when the device's session has ended; first
to MongoDB, then to Redis. An edge that is killed forgets the last of them, and the device gets those messages once more.

MongoDB away: who is in Redis' copy begins from there, who is not is told to come again; acks wait. Redis away: MongoDB alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import islice
from typing import Final

import anyio
import structlog

from edge.acks import Acks, Seqs
from router.cursor_cache import CursorCache
from router.cursors import CursorKey, Cursors
from router.metrics import CURSORS_DROPPED, CURSORS_WAITING, CURSORS_WRITTEN
from router.mongo_client import STORE_OUTAGE
from router.outage import Outages
from router.redis_client import OUTAGE
from router.settings import Settings

log = structlog.get_logger(__name__)

READERS: Final = 4
"""Look-ups at once, of all the devices of this edge together."""

BATCH_MAX: Final = 256
"""Of most sessions in one look-up."""

CHUNK_MAX: Final = 250
"""Most cursors in one write. The embedded store takes half a millisecond for one, several times that on a busy machine; a write
that is not through within `mongo_timeout_s` would only be begun anew."""

Waiter = Callable[[Mapping[CursorKey, int] | None], None]
"""Is told the cursors; None where nobody could say one of them."""


class DeviceCursors:
    """Finds and moves the cursors of devices.

    Args:
        cursors: MongoDB's.
        cache: Redis' copy of them.
        settings: `cursor_flush_s`, `cursor_waiting_max`, how long a look-up may take.
        outages: waits while MongoDB is away.
    """

    def __init__(self, cursors: Cursors, cache: CursorCache, settings: Settings, outages: Outages) -> None:
        self._cursors = cursors
        self._cache = cache
        self._flush_s = settings.cursor_flush_s
        self._timeout_s = settings.redis_timeout_s
        self._outages = outages
        self._asks: dict[Waiter, dict[CursorKey, int]] = {}
        self._asked = anyio.Event()
        self._acks = Acks(settings.cursor_waiting_max)
        self._due = anyio.Event()
        self._written = anyio.Event()

    # -- called by sessions ------------------------------------------------------------------------------------------

    def find(self, begin_at: Mapping[CursorKey, int], waiter: Waiter) -> None:
        """Look cursors up soon; one that nobody knows begins where this says, and is durable when the waiter is told."""
        self._asks.setdefault(waiter, {}).update(begin_at)
        self._asked.set()

    def withdraw(self, waiter: Waiter) -> None:
        """Forget a waiter that has gone."""
        self._asks.pop(waiter, None)

    def note(self, key: CursorKey, seq: int) -> None:
        """Have a cursor moved forward within `cursor_flush_s`."""
        self._acks.note(key, seq)

    def hasten(self, key: CursorKey) -> None:
        """Have a cursor written now, if it has moved: its session has ended."""
        self._acks.hasten(key)
        if self._acks.due:
            self._due.set()

    # -- run by the edge ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look up and write until cancelled. What is not written then is forgotten: see `flush`."""
        async with anyio.create_task_group() as tasks:
            for _ in range(READERS):
                tasks.start_soon(self._look_up)
            tasks.start_soon(self._mature)
            tasks.start_soon(self._write)

    async def flush(self) -> None:
        """Return when everything noted before is written, or cannot be in good time: an edge that stops is waited for."""
        with anyio.move_on_after(self._timeout_s):
            while len(self._acks):
                self._mature_now()
                self._written = anyio.Event()
                await self._written.wait()
            return
        log.warning("cursors_forgotten", count=len(self._acks))

    async def _look_up(self) -> None:
        while True:
            while not self._asks:
                if self._asked.is_set():
                    # One that is not set yet has waiters: all readers wait for the same.
                    self._asked = anyio.Event()
                await self._asked.wait()
            asks = {waiter: self._asks.pop(waiter) for waiter in list(islice(self._asks, BATCH_MAX))}
            begun: Seqs = {}
            found = await self._find({key: seq for ask in asks.values() for key, seq in ask.items()}, begun)
            for waiter, ask in asks.items():
                waiter({key: found[key] for key in ask} if found.keys() >= ask.keys() else None)
            await self._copy(begun)

    async def _find(self, begin_at: Mapping[CursorKey, int], begun: Seqs) -> Seqs:
        """Return where the cursors stand, as far as anybody could be asked, and put those into `begun` that were new."""
        found: Seqs = {}
        try:
            with anyio.fail_after(self._timeout_s):
                found |= await self._find_cached(begin_at.keys())
                stored = await self._find_stored(begin_at.keys() - found.keys())
                found |= stored
                # One that is noted is known, but the device is owed what follows it even if this edge dies now.
                new = {key: self._noted(key, default=begin_at[key]) for key in begin_at.keys() - found.keys()}
                if new:
                    begun |= await self._cursors.begin(new)
                    found |= begun
        except (*STORE_OUTAGE, TimeoutError) as exc:
            log.warning("cursors_unread", count=len(begin_at.keys() - found.keys()), error=str(exc))
        return {key: max(seq, self._noted(key, default=seq)) for key, seq in found.items()}

    def _noted(self, key: CursorKey, *, default: int) -> int:
        """Return where a cursor is on its way to."""
        seq = self._acks.find(key)
        return default if seq is None else seq

    async def _find_cached(self, keys: Collection[CursorKey]) -> Seqs:
        # Half of the time, so that MongoDB can still answer when Redis does not.
        with anyio.move_on_after(self._timeout_s / 2):
            try:
                return await self._cache.find(keys)
            except OUTAGE as exc:
                log.warning("cursor_cache_failed", error=str(exc))
        return {}

    async def _find_stored(self, keys: Collection[CursorKey]) -> Seqs:
        if not keys:
            return {}
        stored = await self._cursors.find(keys)
        for key, seq in stored.items():
            # Written again, for that says when the device was seen, and has Redis hold a copy.
            self._acks.note(key, seq)
        return stored

    async def _mature(self) -> None:
        while True:
            await anyio.sleep(self._flush_s)
            CURSORS_WAITING.set(len(self._acks))
            self._mature_now()

    def _mature_now(self) -> None:
        self._acks.mature()
        if self._acks.due:
            self._due.set()

    async def _write(self) -> None:
        dropped = 0
        while True:
            if not self._acks.due:
                self._due = anyio.Event()
                await self._due.wait()
            await self._write_chunk()
            CURSORS_DROPPED.inc(self._acks.dropped - dropped)
            dropped = self._acks.dropped
            self._written.set()

    async def _write_chunk(self) -> None:
        seqs = self._acks.take(CHUNK_MAX)
        try:
            await self._cursors.advance(seqs)
        except STORE_OUTAGE as exc:
            self._acks.give_back()
            await self._outages.wait("mongo", exc)
            return
        self._acks.done()
        self._outages.over()
        CURSORS_WRITTEN.inc(len(seqs))
        await self._copy(seqs)

    async def _copy(self, seqs: Seqs) -> None:
        """Have Redis hold what MongoDB has."""
        if not seqs:
            return
        try:
            await self._cache.advance(seqs)
        except OUTAGE as exc:
            # The copy is older than MongoDB's now, which only makes messages come twice.
            log.warning("cursor_cache_failed", error=str(exc))
