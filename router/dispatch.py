"""Dispatch: from the dispatch stream to the channels of the nodes that hold each target's people.

All that is decided stands in lua/dispatch.lua; what stands here calls it again and again. A call that was cut off may have
done its work or not: what it did is acknowledged, so taking again what was taken before finds exactly the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Final

import anyio
import structlog
from redis.asyncio import Redis

import lua
from router import metrics
from router.backlog import Backlog, Stream
from router.bell import Bell
from router.fitness import await_redis
from router.keys import Keys
from router.lease import Lease
from router.ops import Health
from router.outage import Outages
from router.redis_client import open_redis
from router.service import cancel_at
from router.settings import Settings
from router.streams import NEW, TAKEN_BEFORE, fencing, take_from_group
from router.turns import take_turns

log = structlog.get_logger(__name__)

ROLE: Final = "dispatch"
GROUP: Final = "dispatch"


@dataclass(frozen=True, slots=True)
class Dispatched:
    """What one call of dispatch.lua did.

    Attributes:
        taken: entries read.
        done: how many of them, from the first, are published and acknowledged.
        published: lines published, one a node and message.
        offline: reports added to the offline stream.
        failed_id: the entry that failed, or "".
        failure: what Redis said of it.
        waited_ms: how long the first entry had waited in the stream, by Redis' clock.
    """

    taken: int
    done: int
    published: int
    offline: int
    failed_id: str
    failure: str
    waited_ms: int = field(default=0, compare=False)


class Outlet:
    """Dispatch's calls to Redis for one shard."""

    def __init__(self, redis: Redis, keys: Keys, settings: Settings) -> None:
        self._redis = redis
        self._keys = keys
        self._settings = settings
        self._lease = keys.lease(ROLE)
        self._dispatch = redis.register_script(lua.source("dispatch"))
        self._bury = redis.register_script(lua.source("bury"))

    async def dispatch(self, held: str, start: str, most: int) -> Dispatched:
        """Hand on up to `most` entries, `TAKEN_BEFORE` or `NEW`.

        Raises:
            Fenced: when the lease is not ours.
            RedisError: when Redis is away; what was not done is found with `TAKEN_BEFORE`.
        """
        settings, keys = self._settings, self._keys
        names = [self._lease, keys.out(), keys.nodes(), keys.offline(), keys.trace()]
        limits = [most, settings.read_max_bytes, settings.publish_max_bytes, settings.offline_max, settings.trace_max]
        args = [held, start, *limits]
        reply = await take_from_group(self._redis, self._dispatch, keys.out(), GROUP, names, args)
        taken, done, published, offline, failed_id, failure, waited_ms = reply
        # The failure quotes the entry, which may hold any bytes.
        return Dispatched(taken, done, published, offline, failed_id.decode(), failure.decode(errors="replace"), waited_ms)

    async def bury(self, held: str, entry_id: str, reason: str) -> None:
        """Move an entry that fails again and again to the dead-letter stream.

        Raises:
            Fenced: when the lease is not ours.
            RedisError: when Redis is away.
        """
        names = [self._lease, self._keys.out(), self._keys.dead()]
        with fencing():
            await self._bury(keys=names, args=[held, GROUP, self._settings.dead_max, entry_id, reason])


class Dispatcher:
    """Dispatch's work on one shard while the lease is held."""

    def __init__(self, outlet: Outlet, bell: Bell, outages: Outages, settings: Settings) -> None:
        self._outlet = outlet
        self._bell = bell
        self._outages = outages
        self._batch_max = settings.batch_max

    async def run(self, held: str) -> None:
        """Work until the lease turns out to be lost, then return."""
        await take_turns(partial(self._turn, held), self._outages)

    async def _turn(self, held: str, start: str) -> str:
        """Hand one batch on, or wait for one; return where to take from next."""
        result = await self._outlet.dispatch(held, start, self._batch_max)
        _count(result)
        if result.failed_id:
            await self._bury(held, result)
        if result.done < result.taken:
            return TAKEN_BEFORE
        if not result.taken and start == NEW:
            await self._bell.wait()
        return start if result.taken else NEW

    async def _bury(self, held: str, result: Dispatched) -> None:
        """Take a failing entry out of the way of those behind it. What fails is the entry's own: an outage raises instead."""
        await self._outlet.bury(held, result.failed_id, result.failure)
        metrics.DEAD.labels(source="out").inc()
        log.warning("entry_died", entry=result.failed_id, reason=result.failure)


def _count(result: Dispatched) -> None:
    if result.taken:
        metrics.BATCH_SIZE.labels("dispatch").observe(result.taken)
        metrics.LATENCY_SECONDS.labels("out_wait").observe(result.waited_ms / 1000)
    metrics.DISPATCHED.inc(result.done)
    metrics.OFFLINE.inc(result.offline)


async def serve(settings: Settings, health: Health, stop: anyio.Event) -> None:
    """Dispatch until `stop` is set.

    Raises:
        SetupError: when Redis answers and is not fit.
    """
    async with (
        open_redis(settings) as redis,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(cancel_at, stop, tasks.cancel_scope)
        await await_redis(redis, settings, health)
        health.set("lease", ok=False, why="no lease has been asked for yet")
        for shard in range(settings.shards):
            keys = Keys(settings.prefix, shard)
            dispatcher = Dispatcher(
                Outlet(redis, keys, settings),
                Bell(redis, keys.out(), settings),
                Outages(health, settings, shard=shard),
                settings,
            )
            lease = Lease(redis, keys, ROLE, settings, health)
            backlog = Backlog(redis, shard, [Stream("out", keys.out(), GROUP), Stream("offline", keys.offline())])
            tasks.start_soon(lease.hold, backlog.beside(dispatcher.run))
