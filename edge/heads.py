"""Heads that Redis cannot tell: MongoDB's newest counts then, and is asked for in bulk.

Redis keeps no counter of a target that has long been idle, and none of its counters count once it has restarted or failed over.
In that second case every user of this edge needs MongoDB at once, so one query answers for many targets: whoever asks while a
query is on its way makes up the next.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final

import anyio

from router.inbox import STORE_OUTAGE, TARGETS_A_QUERY, Inbox
from router.outage import Outages

READERS: Final = 4
"""Queries at once, of whatever kind; what one edge may ask of a MongoDB that all edges ask after an outage."""

Tell = Callable[[int | None], None]
"""Is told the head, 0 of a target that has never had a message; None when MongoDB cannot be asked just now."""


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
        self._waiting: dict[str, list[Tell]] = {}
        self._asked = anyio.Event()

    def ask(self, target: str, tell: Tell) -> None:
        """Have `tell` told the head of a target, as it is after this call."""
        self._waiting.setdefault(target, []).append(tell)
        self._asked.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            if not self._waiting:
                self._asked = anyio.Event()
                await self._asked.wait()
            targets = list(islice(self._waiting, TARGETS_A_QUERY))
            tells = {target: self._waiting.pop(target) for target in targets}
            try:
                async with self._reading:
                    newest = await self._inbox.newest(targets)
            except STORE_OUTAGE as exc:
                _tell_all(tells, dict.fromkeys(targets))
                await self._outages.wait("mongo", exc)
            else:
                self._outages.over()
                _tell_all(tells, {target: newest.get(target, 0) for target in targets})


def _tell_all(tells: dict[str, list[Tell]], heads: dict[str, int | None] | dict[str, int]) -> None:
    for target, waiting in tells.items():
        for tell in waiting:
            tell(heads[target])
