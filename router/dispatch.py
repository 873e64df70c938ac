"""Dispatch: from two streams to the channels of the nodes that hold each target's people.

All that is decided stands in lua/dispatch.lua; what stands here calls it again and again. What stands in a stream is what is
still to be done. A call that was cut off may have done its work or not: what it did is gone, and the next finds exactly the
rest.

The streams are lanes: `out`, which collect fills, and `fast`, which producers fill with what is transient. They are served in
turns of one batch each, as long as either has something, so that neither waits for the other to become empty.

A message that comes alone costs as much as the times that it wakes somebody. So a call and the wait for the next news go to
Redis in one write, on a connection that is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, Final

import anyio
import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

import lua
from router import metrics
from router.backlog import Backlog, Stream
from router.capped import Capped
from router.fitness import await_redis
from router.handover import Handover
from router.keys import Keys
from router.lease import Lease
from router.leavers import Leavers, Leaving
from router.ops import Health
from router.outage import Outages
from router.own_connection import OwnConnection, pack
from router.redis_client import open_redis
from router.service import cancel_at
from router.settings import Settings
from router.sharing import Place, Sharing
from router.streams import NEW, TAKEN_BEFORE, fencing, take_from_group
from router.turns import take_turns
from router.workers import Workers, make_worker_id

log = structlog.get_logger(__name__)

ROLE: Final = "dispatch"
GROUP: Final = "dispatch"

_READ_FIRST: Final = 32
"""Entries that the script reads before it knows how long they are, unless so many of the longest pass its budget."""

_CALL_SECONDS: Final = metrics.REDIS_SECONDS.labels("dispatch")


class Lane(StrEnum):
    """A stream that dispatch reads."""

    OUT = "out"
    """Finished lines of collect's."""
    FAST = "fast"
    """What producers append; the script makes the lines."""

    @classmethod
    def of(cls, stream: str) -> Lane:
        """Return the lane of a stream, whose key ends in its name."""
        return cls(stream.rpartition(":")[2])


_BATCH_SIZE: Final = metrics.BATCH_SIZE.labels("dispatch")
_DEAD: Final = {lane: metrics.DEAD.labels(source=lane) for lane in Lane}
_WAIT_SECONDS: Final = {lane: metrics.LATENCY_SECONDS.labels(f"{lane}_wait") for lane in Lane}


@dataclass(frozen=True, slots=True)
class Moved:
    """An entry of the fast lane that belongs to another shard: its fields and values in turn."""

    shard: int
    flat: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Dispatched:
    """What one call of dispatch.lua did.

    Attributes:
        taken: entries read.
        done: how many of them, from the first, are published and deleted, or done with as `dead`, `expired` and `moved` say.
        published: lines published, one a node and message.
        offline: reports added to the offline stream.
        failed_id: the entry of the last of the dead, or "".
        failure: what was wrong with it.
        waited_ms: how long the first entry had waited in the stream, by Redis' clock.
        dead: dead letters: entries of `fast`, or lines of entries of `out`.
        expired: entries dropped because their time was over.
        moved: entries that are for the caller to append to their shards; they are in Redis no longer.
        more: how many messages more than one the entries stood for that are done.
    """

    taken: int
    done: int
    published: int
    offline: int
    failed_id: str
    failure: str
    waited_ms: int = field(default=0, compare=False)
    dead: int = 0
    expired: int = 0
    moved: tuple[Moved, ...] = ()
    more: int = 0


_LOOKS_A_STREAM: Final = 8
"""How often the offline reports are measured while they fill up: to look for each call would cost what many messages do."""


class Outlet:
    """Dispatch's calls to Redis for one shard."""

    def __init__(self, redis: Redis, keys: Keys, settings: Settings) -> None:
        self._redis = redis
        self._keys = keys
        self._settings = settings
        self._lease = keys.lease(ROLE)
        self._dispatch = redis.register_script(lua.source("dispatch"))
        self._own = OwnConnection(redis, self._lease)
        self._calls: dict[tuple[str, int, Lane, bool], bytes] = {}
        self._wait = pack(redis, *self._waiting())
        self._forward = redis.register_script(lua.source("forward"))
        self._dead = Capped(redis, keys.dead(), settings.dead_max_bytes)
        self._offline = Capped(redis, keys.offline(), settings.offline_max_bytes, settings.offline_max_bytes // _LOOKS_A_STREAM)

    async def dispatch(self, held: str, most: int, lane: Lane = Lane.OUT, *, ring: bool = False) -> Dispatched:
        """Hand on the first of what stands in a lane, up to `most` entries.

        Args:
            held: the lease.
            most: entries.
            lane: which of the two.
            ring: begin to wait for news in the same write; the caller asks for it with `news` next.

        Raises:
            Fenced: when the lease is not ours.
            RedisError: when Redis is away; what was not done still stands there.
        """
        with _CALL_SECONDS.time(), fencing():
            try:
                await self._own.send(self._call(held, most, lane, ring), 2 if ring else 1)
                reply = await self._own.receive()
            except ResponseError as exc:
                if not isinstance(exc, NoScriptError) and not str(exc).startswith("NOGROUP"):
                    raise
                # The ordinary way, which loads the script and makes the group. Where it was asked to ring, the answer to that
                # is still to come; it comes at once where there was anything to do.
                reply = await self._dispatch_at_first(held, most, lane)
        taken, done, published, offline, failed_id, failure, waited_ms, dead, expired, moved, more = reply
        return Dispatched(
            *(taken, done, published, offline, failed_id.decode()),
            # It quotes the entry, which may hold any bytes.
            failure.decode(errors="replace"),
            *(waited_ms, dead, expired),
            tuple(Moved(shard, flat) for shard, *flat in moved),
            more,
        )

    async def _dispatch_at_first(self, held: str, most: int, lane: Lane) -> Any:  # noqa: ANN401 - a script's reply
        keys, args = self._words(held, most, lane)
        return await take_from_group(self._redis, self._dispatch, keys[1], GROUP, keys, args)

    async def news(self) -> Sequence[Lane]:
        """Wait until something stands in a lane, and return the lanes where something does.

        After `wait_ms` without anything, all are returned: a call then finds out whether the server is still the primary.

        Raises:
            RedisError: when Redis is away.
        """
        if not self._own.owed:
            await self._own.send(self._wait, 1)
        reply = await self._own.receive()
        return [Lane.of(stream.decode()) for stream, _ in reply] if reply else tuple(Lane)

    def _call(self, held: str, most: int, lane: Lane, ring: bool) -> bytes:
        """Return a call as it goes over the wire: nothing in it changes but the lease."""
        wish = (held, most, lane, ring)
        if wish not in self._calls:
            self._calls = {known: call for known, call in self._calls.items() if known[0] == held}
            keys, args = self._words(held, most, lane)
            call = pack(self._redis, "EVALSHA", self._dispatch.sha, len(keys), *keys, *args)
            self._calls[wish] = call + self._wait if ring else call
        return self._calls[wish]

    def _words(self, held: str, most: int, lane: Lane) -> tuple[list[str], list[str | int]]:
        keys = self._keys
        stream = keys.fast() if lane is Lane.FAST else keys.out()
        names = [self._lease, stream, keys.nodes(), keys.offline(), keys.trace(), keys.dead()]
        return names, [held, most, *self._limits(lane)]

    def _waiting(self) -> list[str | int]:
        """Return the command that rings.

        What stands in a stream is what is to be done, so it asks for anything at all, and one that began anew is heard too. One
        entry of each is the least it can be asked for.
        """
        settings = self._settings
        # Well below the time after which a silent Redis counts as away.
        wait_ms = max(1, min(settings.wait_ms, int(settings.redis_timeout_s * 500)))
        streams = [self._keys.out(), self._keys.fast()]
        return ["XREAD", "COUNT", 1, "BLOCK", wait_ms, "STREAMS", *streams, *("0-0" for _ in streams)]

    def _limits(self, lane: Lane) -> list[str | int]:
        settings = self._settings
        publish_max = settings.publish_max_bytes
        # What producers append is read by the script character by character: in the worst case 4 MiB take it half a second, in
        # which Redis serves nobody else. No node is sent more than that in one call, either.
        read_max = settings.read_max_bytes if lane is Lane.OUT else min(settings.read_max_bytes, publish_max)
        read_first = max(1, min(_READ_FIRST, read_max // settings.body_max_bytes))
        kept = [settings.offline_max, settings.trace_max]
        limits: list[str | int] = [read_first, read_max, publish_max, *kept, lane, settings.dead_max]
        if lane is Lane.OUT:
            return limits
        rules = [settings.shards, settings.body_max_bytes, settings.transient_max_age_ms]
        return [*limits, *rules, int(settings.retention_s)]

    async def move(self, moved: Sequence[Moved]) -> None:
        """Append to other shards' `fast`, in order. None costs nothing.

        It is not tried again: they are transient, and this shard has none of them any more.

        Raises:
            RedisError: when Redis is away.
        """
        by_shard: dict[int, list[bytes | int]] = {}
        for entry in moved:
            by_shard.setdefault(entry.shard, []).extend((len(entry.flat), *entry.flat))
        for shard, args in by_shard.items():
            keys = Keys(self._settings.prefix, shard)
            await self._forward(keys=[keys.fast(), keys.pending()], args=args)

    async def hold(self, result: Dispatched) -> None:
        """Hold what a call has added to for people to its bytes.

        Raises:
            RedisError: when Redis is away.
        """
        if result.dead:
            await self._dead.grew(result.dead)
        if result.offline:
            await self._offline.grew(result.offline * self._settings.body_max_bytes)


class Dispatcher:
    """Dispatch's work on one shard while the lease is held."""

    def __init__(self, outlet: Outlet, outages: Outages, settings: Settings, handover: Handover | None = None) -> None:
        self._outlet = outlet
        self._handover = handover or Handover()
        self._outages = outages
        self._batch_max = settings.batch_max
        self._due: Sequence[Lane] = ()

    async def run(self, held: str) -> None:
        """Work until the lease turns out to be lost or the shard is asked for, then return."""
        await take_turns(partial(self._turn, held), self._outages, self._handover)

    async def _turn(self, held: str, start: str) -> str:
        """Hand on one batch of each lane that is due, then wait for news: there is some at once where anything is left."""
        due = tuple(Lane) if start == TAKEN_BEFORE else self._due
        for lane in due:
            await self._serve(held, lane, ring=lane is due[-1])
        with self._handover.idle():
            self._due = await self._outlet.news()
        return NEW

    async def _serve(self, held: str, lane: Lane, *, ring: bool) -> None:
        """Hand on a batch of a lane."""
        result = await self._outlet.dispatch(held, self._batch_max, lane, ring=ring)
        _count(lane, result)
        await self._outlet.hold(result)
        if result.dead:
            log.warning("entries_died", stream=lane, count=result.dead, entry=result.failed_id, reason=result.failure)
        if result.moved:
            await self._outlet.move(result.moved)
            metrics.MOVED.inc(len(result.moved))


def _count(lane: Lane, result: Dispatched) -> None:
    if not result.taken:
        return
    _BATCH_SIZE.observe(result.done + result.more)
    _WAIT_SECONDS[lane].observe(result.waited_ms / 1000)
    handed_on = result.done + result.more - result.dead - result.expired - len(result.moved)
    metrics.DISPATCHED.inc(handed_on)
    if lane is Lane.FAST:
        metrics.FAST.inc(handed_on)
    # A figure costs a lock, and these hardly ever move.
    for figure, count in ((metrics.OFFLINE, result.offline), (metrics.EXPIRED, result.expired), (_DEAD[lane], result.dead)):
        if count:
            figure.inc(count)


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
        worker = make_worker_id(settings.worker)
        places = [_place(redis, settings, health, shard, worker) for shard in range(settings.shards)]
        tasks.start_soon(Sharing(ROLE, worker, Workers(redis, settings, ROLE), places, settings, health).run)


def _place(redis: Redis, settings: Settings, health: Health, shard: int, worker: str) -> Place:
    """Return a shard's lease and dispatch's work on it."""
    keys = Keys(settings.prefix, shard)
    lease = Lease(redis, keys, ROLE, worker, settings.lease_ms)
    outages = Outages(health, settings, shard=shard)
    dispatcher = Dispatcher(Outlet(redis, keys, settings), outages, settings, lease.handover)
    apart = Outages(Health(), settings, shard=shard, part="leavers")
    leavers = Leavers(Leaving(redis, keys, settings), shard, settings, apart)
    streams = [Stream("out", keys.out(), GROUP), Stream("fast", keys.fast(), GROUP), Stream("offline", keys.offline())]
    return Place(lease, Backlog(redis, shard, streams).beside(leavers.beside(dispatcher.run)))
