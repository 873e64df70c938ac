"""Heads that Redis cannot tell: MongoDB's newest counts then.

Redis keeps no counter of a target that has long been idle, and none of its counters count once it has restarted or failed
over. In that second case every user of this edge needs MongoDB at once: whoever asks waits in line, once a target.

There are two lines. Who knows a seq that was stored, as most sessions do that are there already, is answered by one look at
the end of an index; `READERS` tasks take turns with these. Who comes knows none, and mostly there is none: these are looked up
many at a time, one query after the other, for a query costs an edge more than all else that it does for someone who comes.
Those that have too much stored for that (the embedded store reads all of it) go over to the first line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import anyio

from edge.company import gathered
from router.inbox import Inbox
from router.mongo_client import STORE_OUTAGE
from router.outage import Outages

READERS: Final = 4
"""Queries at once, of whatever kind; what one edge may ask of a MongoDB that all edges ask after an outage."""

_TARGETS_A_QUERY: Final = 64
"""Most targets looked up at once. One of them that has much stored has all of them asked for one by one."""

Tell = Callable[[int | None], None]
"""Is told the head, 0 of a target that has never had a message; None when MongoDB cannot be asked just now."""


@dataclass(slots=True)
class _Ask:
    above: int
    tells: list[Tell] = field(default_factory=list)


class _Line:
    """Who waits for the head of which target, first come, first served."""

    def __init__(self) -> None:
        self.asks: dict[str, _Ask] = {}
        self._asked = anyio.Event()

    def put(self, target: str, ask: _Ask) -> None:
        """Have a target wait."""
        self.asks[target] = ask
        self._asked.set()

    async def take(self, most: int) -> dict[str, _Ask]:
        """Return the next, as soon as there are any; up to so many, those who come in the same rush among them."""
        while not self.asks:
            if self._asked.is_set():
                # One that is not set yet has waiters: all readers wait for the same.
                self._asked = anyio.Event()
            await self._asked.wait()
        if most > 1:
            await gathered(self.asks.__len__, most)
        return {target: self.asks.pop(target) for target in list(islice(self.asks, most))}


class Heads:
    """Asks MongoDB for heads.

    Args:
        inbox: where it is asked.
        reading: lets so many of the edge's queries run at once.
        outages: waits while MongoDB is away.
    """

    def __init__(self, inbox: Inbox, reading: anyio.CapacityLimiter, outages: Outages) -> None:
        self._inbox = inbox
        self._reading = reading
        self._outages = outages
        self._known = _Line()
        self._unknown = _Line()

    def ask(self, target: str, tell: Tell, above: int = 0) -> None:
        """Have `tell` told the head of a target, as it is after this call; `above` is a seq that it is not below."""
        ask = self._known.asks.get(target) or self._unknown.asks.get(target)
        if ask is None:
            ask = _Ask(above)
            (self._known if above else self._unknown).put(target, ask)
        ask.above = min(above, ask.above)
        ask.tells.append(tell)

    async def run(self) -> None:
        """Ask until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._read_many)
            for _ in range(READERS):
                tasks.start_soon(self._read)

    async def _read(self) -> None:
        while True:
            ((target, ask),) = (await self._known.take(1)).items()
            try:
                async with self._reading:
                    head: int | None = await self._inbox.newest_above(target, ask.above)
            except STORE_OUTAGE as exc:
                _tell_all([ask], None)
                await self._outages.wait("mongo", exc)
            else:
                self._outages.over()
                _tell_all([ask], head)

    async def _read_many(self) -> None:
        while True:
            asks = await self._unknown.take(_TARGETS_A_QUERY)
            try:
                async with self._reading:
                    heads = await self._inbox.newest_of_few(list(asks))
            except STORE_OUTAGE as exc:
                _tell_all(asks.values(), None)
                await self._outages.wait("mongo", exc)
                continue
            self._outages.over()
            for target, ask in asks.items():
                if heads is None:
                    self._put_off(target, ask)
                else:
                    _tell_all([ask], heads.get(target, 0))

    def _put_off(self, target: str, ask: _Ask) -> None:
        """Have a target asked for alone, with those who have asked for it meanwhile."""
        since = self._known.asks.get(target)
        if since is not None:
            ask.tells += since.tells
        self._known.put(target, ask)


def _tell_all(asks: Iterable[_Ask], head: int | None) -> None:
    for ask in asks:
        for tell in ask.tells:
            tell(head)
