"""Holding a lease: one owner a shard and role, standbys that take over, and a token that fences off whoever lost it.

The lease is only half of the promise. An owner that was paused may wake after its lease has gone and not know it yet, so
every script that writes for a role compares the lease with the value its caller was given (`held`), and refuses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import structlog
from redis.asyncio import Redis

import lua
from router.keys import Keys
from router.metrics import LEASE_HELD
from router.ops import Health
from router.outage import Outages
from router.redis_client import OUTAGE
from router.settings import Settings

log = structlog.get_logger(__name__)

_RENEWALS_A_LIFE = 3
"""How often a lease is renewed in its life: one renewal may be lost, and the next still comes in time."""

_RELEASE_TIMEOUT_S = 1.0


class Lease:
    """One role's lease on one shard, as this process sees it.

    Args:
        redis: where the lease stands.
        keys: the shard's.
        role: `collect` or `dispatch`, for logs and metrics.
        settings: `worker`, `lease_ms` and the backoff.
        health: gets the condition `lease`, met when it is known who holds it: a standby is ready too.
    """

    def __init__(self, redis: Redis, keys: Keys, role: str, settings: Settings, health: Health) -> None:
        key = self._key = keys.lease(role)
        self._role = role
        self._owner = settings.worker
        self._lease_ms = settings.lease_ms
        self._health = health
        self._outages = Outages(health, settings, key=key)
        self._take = redis.register_script(lua.source("lease_take"))
        self._renew = redis.register_script(lua.source("lease_renew"))
        self._release = redis.register_script(lua.source("lease_release"))
        self._known_holder = ""
        self._figure = LEASE_HELD.labels(role, keys.shard)

    @property
    def _pause_s(self) -> float:
        return self._lease_ms / _RENEWALS_A_LIFE / 1000

    async def hold(self, work: Callable[[str], Awaitable[None]]) -> None:
        """Run `work(held)` whenever the lease is ours, again and again; never return.

        Args:
            work: is cancelled when the lease is found lost, and may return when it finds so itself (`Fenced`).

        On cancellation the lease is given back.
        """
        while True:
            held = await self._acquire()
            self._figure.set(1)
            log.info("lease_taken", key=self._key, held=held)
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._keep, held, tasks.cancel_scope)
                    await work(held)
                    tasks.cancel_scope.cancel()
            finally:
                self._figure.set(0)
                await self._give_back(held)
            log.warning("lease_lost", key=self._key, held=held)

    async def _acquire(self) -> str:
        while True:
            try:
                taken, value = await self._take(keys=[self._key], args=[self._owner, self._lease_ms])
            except OUTAGE as exc:
                await self._outages.wait("redis", exc)
                continue
            self._outages.over()
            self._health.set("lease", ok=True)
            holder: str = value.decode()
            if taken:
                return holder
            self._say_holder(holder)
            await anyio.sleep(self._pause_s)

    def _say_holder(self, holder: str) -> None:
        if holder != self._known_holder:
            self._known_holder = holder
            log.info("lease_held_by_another", key=self._key, holder=holder)

    async def _keep(self, held: str, scope: anyio.CancelScope) -> None:
        """Renew until the lease is lost, then cancel the work."""
        while True:
            await anyio.sleep(self._pause_s)
            try:
                renewed = await self._renew(keys=[self._key], args=[held, self._lease_ms])
            except OUTAGE:
                # The work meets the same outage and waits; whether the lease survived it is known when Redis is back.
                continue
            if not renewed:
                scope.cancel()
                return

    async def _give_back(self, held: str) -> None:
        with anyio.move_on_after(_RELEASE_TIMEOUT_S, shield=True):
            try:
                await self._release(keys=[self._key], args=[held])
            except OUTAGE:
                log.debug("lease_left_to_lapse", key=self._key)
