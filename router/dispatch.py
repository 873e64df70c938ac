"""Dispatch: from two streams to the channels of the nodes that hold each target's people.

All that is decided stands in lua/dispatch.lua; what stands here calls it again and again. What stands in a stream is what is
still to be done. A call that was cut off may have done its work or not: what it did is gone, and the next finds exactly the
rest.

The streams are lanes: `out`, which collect fills, and `fast`, which producers fill with what is transient. They are served in
turns of one batch each, as long as either has something, so that neither waits for the other to become empty.

A message that comes alone costs as much as the times that it wakes somebody. So a call and the wait for the next news go to
Redis in one write, on a connection that is kept. While messages come alone, the call that is to follow the news goes with it:
Redis carries it out in the moment in which somebody appends, and one answer tells of both. What comes in a crowd is called for
when the news is here, since more of it has come by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, Final, NamedTuple

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

_ALONE_MAX: Final = 2
"""Messages of a batch that came alone."""

_STILL_ALONE_MAX: Final = 8
"""Messages of one that did so little later: the call that goes ahead does not wait for company, so its batches are smaller."""

_READ_FIRST: Final = 32
"""Entries that the script reads before it knows how long they are, unless so many of the longest pass its budget."""

_CALL_SECONDS: Final = metrics.REDIS_SECONDS.labels("dispatch")


class Lane(StrEnum):
    """A stream that dispatch reads."""

    OUT = "out"
    """Finished lines of collect's."""
    FAST = "fast"
    """What producers append; the script makes the lines."""


_BATCH_SIZE: Final = metrics.BATCH_SIZE.labels("dispatch")
_DEAD: Final = {lane: metrics.DEAD.labels(source=lane) for lane in Lane}
_WAIT_SECONDS: Final = {lane: metrics.LATENCY_SECONDS.labels(f"{lane}_wait") for lane in Lane}


@dataclass(frozen=True, slots=True)
class Moved:
    """An entry of the fast lane that belongs to another shard: its fields and values in turn."""

    shard: int
    flat: Sequence[bytes]


@dataclass(slots=True)
class Dispatched:
    """What one call of dispatch.lua did. Not frozen: that would take eleven calls to make, and one is made for every message.

    Attributes:
        taken: entries looked at; the last of them may have found no room.
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


class News(NamedTuple):
    """That something is to be done.

    Attributes:
        lanes: where something stood.
        ahead: the lane of which a batch has been handed on at the same moment; `Outlet.handed_on` tells what came of it.
    """

    lanes: Sequence[Lane]
    ahead: Lane | None


_NO_NEWS: Final = News((), None)

_LOOKS_A_STREAM: Final = 8
"""How often the offline reports are measured while they fill up: to look for each call would cost what many messages do."""


class _Wish(NamedTuple):
    """What goes to Redis in one write: a batch of `lane`, then maybe the wait for news, then maybe a batch of `ahead`."""

    held: str
    most: int
    lane: Lane | None
    ring: bool
    ahead: Lane | None


class Outlet:
    """Dispatch's calls to Redis for one shard."""

    def __init__(self, redis: Redis, keys: Keys, settings: Settings) -> None:
        self._redis = redis
        self._keys = keys
        self._settings = settings
        self._lease = keys.lease(ROLE)
        self._dispatch = redis.register_script(lua.source("dispatch"))
        self._own = OwnConnection(redis, self._lease)
        self._streams = {Lane.OUT: keys.out(), Lane.FAST: keys.fast()}
        self._lanes = {stream.encode(): lane for lane, stream in self._streams.items()}
        # As it goes over the wire, and how many replies there will be: nothing changes but the lease.
        self._packed: dict[_Wish, tuple[bytes, int]] = {}
        self._wait = pack(*self._waiting())
        self._ahead: Lane | None = None
        self._forward = redis.register_script(lua.source("forward"))
        self._dead = Capped(redis, keys.dead(), settings.dead_max_bytes)
        self._offline = Capped(redis, keys.offline(), settings.offline_max_bytes, settings.offline_max_bytes // _LOOKS_A_STREAM)

    async def dispatch(
        self, held: str, most: int, lane: Lane = Lane.OUT, *, ring: bool = False, ahead: Lane | None = None
    ) -> Dispatched:
        """Hand on the first of what stands in a lane, up to `most` entries.

        Args:
            held: the lease.
            most: entries.
            lane: which of the two.
            ring: begin to wait for news in the same write; the caller asks for it with `news` next.
            ahead: with `ring`, a lane of which a batch is to be handed on as soon as there is news.

        Raises:
            Fenced: when the lease is not ours.
            RedisError: when Redis is away; what was not done still stands there.
        """
        with _CALL_SECONDS.time():
            await self._send(_Wish(held, most, lane, ring, ahead))
            return await self._receive(held, most, lane)

    async def news(self, held: str, most: int, ahead: Lane | None = None) -> News:
        """Wait until something stands in a lane, and return the lanes where something does.

        After `wait_ms` without anything, all are returned: a call then finds out whether the server is still the primary.

        Args:
            held: the lease.
            most: entries of what is handed on at the same moment.
            ahead: of which lane that is, where `dispatch` has not said it.

        Raises:
            RedisError: when Redis is away.
        """
        if not self._own.owed:
            await self._send(_Wish(held, most, None, True, ahead))
        reply = await self._own.receive()
        return News([self._lanes[stream] for stream, _ in reply] if reply else tuple(Lane), self._ahead)

    async def handed_on(self, held: str, most: int, lane: Lane) -> Dispatched:
        """Return what came of the batch that was handed on with the news; it says so at once.

        Raises:
            Fenced: when the lease is not ours.
            RedisError: when Redis is away; what was not done still stands there.
        """
        return await self._receive(held, most, lane)

    async def _receive(self, held: str, most: int, lane: Lane) -> Dispatched:
        with fencing():
            try:
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
            tuple([Moved(shard, flat) for shard, *flat in moved]),
            more,
        )

    async def _dispatch_at_first(self, held: str, most: int, lane: Lane) -> Any:  # noqa: ANN401 - a script's reply
        keys, args = self._words(held, most, lane)
        return await take_from_group(self._redis, self._dispatch, keys[1], GROUP, keys, args)

    async def _send(self, wish: _Wish) -> None:
        if wish not in self._packed:
            self._packed = {known: packed for known, packed in self._packed.items() if known.held == wish.held}
            parts = (self._call(wish, wish.lane), self._wait if wish.ring else b"", self._call(wish, wish.ahead))
            self._packed[wish] = b"".join(parts), sum(map(bool, parts))
        self._ahead = wish.ahead
        await self._own.send(*self._packed[wish])

    def _call(self, wish: _Wish, lane: Lane | None) -> bytes:
        if lane is None:
            return b""
        keys, args = self._words(wish.held, wish.most, lane)
        return pack("EVALSHA", self._dispatch.sha, len(keys), *keys, *args)

    def _words(self, held: str, most: int, lane: Lane) -> tuple[list[str], list[str | int]]:
        keys = self._keys
        names = [self._lease, self._streams[lane], keys.nodes(), keys.offline(), keys.trace(), keys.dead()]
        return names, [held, most, *self._limits(lane)]

    def _waiting(self) -> list[str | int]:
        """Return the command that rings.

        What stands in a stream is what is to be done, so it asks for anything at all, and one that began anew is heard too. One
        entry of each is the least it can be asked for.
        """
        settings = self._settings
        # Well below the time after which a silent Redis counts as away.
        wait_ms = max(1, min(settings.wait_ms, int(settings.redis_timeout_s * 500)))
        streams = self._streams.values()
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
        # The lane on which messages come alone just now.
        self._ahead: Lane | None = None

    async def run(self, held: str) -> None:
        """Work until the lease turns out to be lost or the shard is asked for, then return."""
        await take_turns(partial(self._turn, held), self._outages, self._handover)

    async def _turn(self, held: str, start: str) -> str:
        """Hand on one batch of each lane that is due, then wait for news: there is some at once where anything is left."""
        due = tuple(Lane) if start == TAKEN_BEFORE else self._due
        for lane in due:
            ring = lane is due[-1]
            ahead = self._ahead if ring else None
            await self._see_to(lane, await self._outlet.dispatch(held, self._batch_max, lane, ring=ring, ahead=ahead))
        news = _NO_NEWS
        with self._handover.idle():
            news = await self._outlet.news(held, self._batch_max, self._ahead)
        self._due = news.lanes
        if news.ahead is not None:
            self._due = [lane for lane in news.lanes if lane is not news.ahead]
            await self._see_to(news.ahead, await self._outlet.handed_on(held, self._batch_max, news.ahead))
        return NEW

    async def _see_to(self, lane: Lane, result: Dispatched) -> None:
        """Do what a batch of a lane that was handed on leaves to be done."""
        _count(lane, result)
        if result.taken:
            most = _STILL_ALONE_MAX if self._ahead is lane else _ALONE_MAX
            self._ahead = lane if result.done + result.more <= most else None
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
