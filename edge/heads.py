"""Heads that Redis cannot tell: MongoDB's newest counts then.

Redis keeps no counter of a target that has long been idle, and none of its counters count once it has restarted or failed
over. In that second case every user of this edge needs MongoDB at once: whoever asks waits in line, once a target, and
`READERS` tasks take turns. Most who ask know a seq that was stored, so that one look at the end of an index answers them.

A query for many targets would save MongoDB some work, but the embedded store reads all that they ever had for it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import anyio

from router.inbox import Inbox
from router.mongo_client import STORE_OUTAGE
from router.outage import Outages

READERS: Final = 4
"""Queries at once, of whatever kind; what one edge may ask of a MongoDB that all edges ask after an outage."""

Tell = Callable[[int | None], None]
"""Is told the head, 0 of a target that has never had a message; None when MongoDB cannot be asked just now."""


@dataclass(slots=True)
class _Ask:
    above: int
    tells: list[Tell] = field(default_factory=list)


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
        self._waiting: OrderedDict[str, _Ask] = OrderedDict()
        self._asked = anyio.Event()

    def ask(self, target: str, tell: Tell, above: int = 0) -> None:
        """Have `tell` told the head of a target, as it is after this call; `above` is a seq that it is not below."""
        ask = self._waiting.setdefault(target, _Ask(above))
        ask.above = min(above, ask.above)
        ask.tells.append(tell)
        self._asked.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        async with anyio.create_task_group() as tasks:
            for _ in range(READERS):
                tasks.start_soon(self._read)

    async def _read(self) -> None:
        while True:
            target, ask = await self._next()
            try:
                async with self._reading:
                    head: int | None = await self._inbox.newest_above(target, ask.above)
            except STORE_OUTAGE as exc:
                _tell_all(ask, None)
                await self._outages.wait("mongo", exc)
            else:
                self._outages.over()
                _tell_all(ask, head)

    async def _next(self) -> tuple[str, _Ask]:
        while not self._waiting:
            if self._asked.is_set():
                # One that is not set yet has waiters: all readers wait for the same.
                self._asked = anyio.Event()
            await self._asked.wait()
        return self._waiting.popitem(last=False)


def _tell_all(ask: _Ask, head: int | None) -> None:
    for tell in ask.tells:
        tell(head)
