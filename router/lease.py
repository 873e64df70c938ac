"""Holding a lease: one owner a shard and role, others that take over, and a token that fences off whoever lost it.

The lease is only half of the promise. An owner that was paused may wake after its lease has gone and not know it yet, so
every script that writes for a role compares the lease with the value its caller was given (`held`), and refuses. Who takes
which lease is decided in `router.sharing`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import structlog
from redis.asyncio import Redis

import lua
from router.handover import Handover
from router.keys import Keys
from router.metrics import HANDOVERS, LEASE_HELD
from router.redis_client import OUTAGE

log = structlog.get_logger(__name__)

RENEWALS_A_LIFE: Final = 3
"""How often a lease is renewed in its life: one renewal may be lost, and the next still comes in time."""

_RELEASE_TIMEOUT_S = 1.0


class Lease:
    """One role's lease on one shard, as this process sees it.

    Args:
        redis: where the lease stands.
        keys: the shard's.
        role: `collect` or `dispatch`, for logs and metrics.
        worker: who takes it: a name that no other process has.
        lease_ms: how long it lasts unless renewed.
        handover: asked to end the work when another is to have the shard.

    Attributes:
        key: of the lease.
        handover: that one.
    """

    def __init__(
        self, redis: Redis, keys: Keys, role: str, worker: str, lease_ms: int, handover: Handover | None = None
    ) -> None:
        self.key = keys.lease(role)
        self.handover = handover or Handover()
        self._role = role
        self._worker = worker
        self._lease_ms = lease_ms
        self._take = redis.register_script(lua.source("lease_take"))
        self._renew = redis.register_script(lua.source("lease_renew"))
        self._release = redis.register_script(lua.source("lease_release"))
        self._figure = LEASE_HELD.labels(role, keys.shard)

    async def take(self) -> str | None:
        """Take the lease if nobody holds it, and return what is held; None where somebody does.

        `keep` is to follow. After an error it may be taken: then it lapses.

        Raises:
            RedisError, OSError: when Redis is away.
        """
        taken, value = await self._take(keys=[self.key], args=[self._worker, self._lease_ms])
        held: str = value.decode()
        return held if taken else None

    async def keep(self, held: str, work: Callable[[str], Awaitable[None]]) -> None:
        """Run `work(held)` for as long as the lease is ours, then give it back.

        Args:
            held: as `take` returned it.
            work: is cancelled when the lease is found lost, and may return when it finds so itself (`Fenced`), or when the
                handover asks it to.

        On cancellation the lease is given back too.
        """
        self.handover.begin()
        self._figure.set(1)
        log.info("lease_taken", key=self.key, held=held)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._renew_on, held, tasks.cancel_scope)
                await work(held)
                tasks.cancel_scope.cancel()
        finally:
            self._figure.set(0)
            given = await self._give_back(held)
        if given and self.handover.asked:
            HANDOVERS.labels(self._role).inc()
            log.info("lease_given_back", key=self.key, held=held)
        else:
            log.warning("lease_lost", key=self.key, held=held)

    async def _renew_on(self, held: str, scope: anyio.CancelScope) -> None:
        """Renew until the lease is lost, then cancel the work."""
        while True:
            await anyio.sleep(self._lease_ms / RENEWALS_A_LIFE / 1000)
            try:
                renewed = await self._renew(keys=[self.key], args=[held, self._lease_ms])
            except OUTAGE:
                # The work meets the same outage and waits; whether the lease survived it is known when Redis is back.
                continue
            if not renewed:
                scope.cancel()
                return

    async def _give_back(self, held: str) -> bool:
        """Return whether it was ours, and is free now."""
        with anyio.move_on_after(_RELEASE_TIMEOUT_S, shield=True):
            try:
                return bool(await self._release(keys=[self.key], args=[held]))
            except OUTAGE:
                log.debug("lease_left_to_lapse", key=self.key)
        return False
