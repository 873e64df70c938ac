"""Sharing a role's shards among its workers, as they come and go.

Theory of operation. Each worker says many times a lease's life that it lives, and hears who else does. Where that has changed,
or it has to give or take, and else as often as a lease is renewed, it looks who holds each shard, and does its part of what
`router.share` says: asks the work on a shard to end behind its present batch, or takes a free one. Leases alone say who owns;
whatever somebody believes of the others can at worst move a shard once too often.

Who has just come, or come back, looks twice before it takes anything: where all start together, the first would else take all
shards, only to give them back.

In a Cluster the workers stand with shard 0. While that is away, nobody gives, and whoever sees a free shard takes it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import anyio
import structlog
from anyio.abc import TaskGroup

from router.lease import RENEWALS_A_LIFE, Lease
from router.metrics import WORKERS
from router.ops import Health
from router.outage import Outages
from router.redis_client import OUTAGE
from router.settings import Settings
from router.share import FREE, share
from router.workers import Workers

log = structlog.get_logger(__name__)

_LOOKS_A_LIFE: Final = 20
"""How often a worker says that it lives in a lease's life. Who has fewer shards than it is due waits for that to be seen."""

_REACH_S: Final = 0.1
"""How soon a worker that lacks a shard looks again: a shard that is given back stands still for about as long."""


@dataclass(frozen=True, slots=True)
class Place:
    """A shard's lease, and the work to be done while it is held."""

    lease: Lease
    work: Callable[[str], Awaitable[None]]


class Sharing:
    """One worker's part of a role's shards.

    Args:
        role: `collect` or `dispatch`, for logs and metrics.
        worker: its id.
        workers: all of them.
        places: one a shard, by number.
        settings: `lease_ms` and the backoff.
        health: gets the condition `lease`, met when it is known who holds them: who stands by is ready too.
    """

    def __init__(
        self, role: str, worker: str, workers: Workers, places: Sequence[Place], settings: Settings, health: Health
    ) -> None:
        self._role = role
        self._worker = worker
        self._workers = workers
        self._places = places
        self._health = health
        self._outages = Outages(health, settings, role=role)
        WORKERS.labels(role)
        self._look_s = settings.lease_ms / _LOOKS_A_LIFE / 1000
        self._sure_s = settings.lease_ms / RENEWALS_A_LIFE / 1000
        self._working: set[int] = set()
        self._others: dict[int, str] = {}
        self._known: list[str] = []
        self._look_at_s = 0.0
        self._lacking = False

    async def run(self) -> None:
        """Work on what is ours to work on; never return. On cancellation all leases are given back."""
        try:
            async with anyio.create_task_group() as tasks:
                while True:
                    try:
                        await self._turn(tasks)
                    except OUTAGE as exc:
                        self._known = []
                        await self._outages.wait("redis", exc)
                    else:
                        self._outages.over()
                        await anyio.sleep(min(self._look_s, _REACH_S) if self._lacking else self._look_s)
        finally:
            WORKERS.remove(self._role)
            await self._workers.leave(self._worker)

    async def _turn(self, tasks: TaskGroup) -> None:
        try:
            workers = await self._workers.beat(self._worker)
        except OUTAGE:
            await self._look(tasks, [self._worker])
            raise
        WORKERS.labels(self._role).set(len(workers))
        known, self._known = self._known, workers
        if self._worker in known and (workers != known or time.monotonic() >= self._look_at_s):
            await self._look(tasks, workers)
            self._health.set("lease", ok=True)

    async def _look(self, tasks: TaskGroup, workers: Sequence[str]) -> None:
        """Do what is ours to do among these workers."""
        holders = await self._workers.holders()
        self._say_others(holders)
        part = share(self._worker, workers, holders)
        for shard in part.give:
            self._places[shard].lease.handover.ask()
        for shard in part.take:
            await self._take(tasks, shard)
        held = holders.count(self._worker)
        self._lacking = held < part.due
        self._look_at_s = time.monotonic() + (self._sure_s if held == part.due else 0)

    async def _take(self, tasks: TaskGroup, shard: int) -> None:
        # One that was lost is not worked on anew before the old work has ended.
        if shard not in self._working and (held := await self._places[shard].lease.take()):
            self._working.add(shard)
            tasks.start_soon(self._work, shard, held)

    async def _work(self, shard: int, held: str) -> None:
        place = self._places[shard]
        try:
            await place.lease.keep(held, place.work)
        finally:
            self._working.discard(shard)
            self._look_at_s = 0.0

    def _say_others(self, holders: Sequence[str]) -> None:
        others = {shard: holder for shard, holder in enumerate(holders) if holder not in {FREE, self._worker}}
        for shard, holder in others.items():
            if self._others.get(shard) != holder:
                log.info("lease_held_by_another", key=self._places[shard].lease.key, holder=holder)
        self._others = others
