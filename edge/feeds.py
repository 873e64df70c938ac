"""The feeds of this node: which topics it hears, from the first session that asks to the last that leaves; and `all`, always.

    wanted ──SSUBSCRIBE──▶ heard ──head, from Redis or MongoDB──▶ started ─▶ joined … left by the last ──SUNSUBSCRIBE──▶ gone

In that order nothing is missed: what is published behind the head comes on the channel, and what precedes it is in the inbox.

After every subscription, and when another era of heads has begun, the heads of all feeds are compared with where they stand,
and what a feed lacks is read. The same comparison is made every `route_ttl_ms`/3 besides: a channel that hears nothing, on a
connection that is well, would otherwise go unnoticed. There a head counts that had been reached by Redis one round before: one
of this moment may just be on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, MutableMapping, Sequence
from functools import partial
from typing import Final, Protocol

import anyio
import structlog
from redis.asyncio import Redis

import lua
from edge.feed import UNTOLD, Feed, Hearing, Roll
from edge.position import Outlet, Position
from edge.resync import compare
from router.keys import Keys
from router.metrics import FEEDS, SUBSCRIPTIONS
from router.outage import Outages, outages_of
from router.redis_client import OUTAGE
from router.settings import Settings
from router.shards import shard_of_id
from router.targets import ALL, TOPIC_PREFIX, target_id

log = structlog.get_logger(__name__)

BATCH_MAX: Final = 256
"""Most heads in one call."""

_ROUNDS_A_LIFE: Final = 3
"""How often heads are compared in the life of a route: as often as routes are renewed."""


class Ear(Protocol):
    """What hears channels; see `edge.subscriber`."""

    def hear(self, channel: str) -> None:
        """Subscribe a channel, now and after every loss."""

    def drop(self, channel: str) -> None:
        """Hear a channel no more."""

    @property
    def refused(self) -> Collection[str]:
        """The channels that Redis does not allow us."""

    async def subscribed(self, shard: int) -> None:
        """Return when all channels of a shard are subscribed that we may hear."""


class _Place:
    """What is known of a feed besides where it stands.

    Attributes:
        channel: that it is heard on.
        seq_key: the hash with its head.
        shard: of its target.
        doubtful: something may have been missed, or it has not started: its head is to be asked.
        reached: the head one round before.
    """

    __slots__ = ("channel", "doubtful", "feed", "reached", "seq_key", "shard")

    def __init__(self, feed: Feed, channel: str, seq_key: str, shard: int) -> None:
        self.feed = feed
        self.channel = channel
        self.seq_key = seq_key
        self.shard = shard
        self.doubtful = False
        self.reached = 0


class _Group:
    """Shards whose Redis is lost and found together; `asked` is set when a place of theirs is in doubt."""

    def __init__(self, shards: range, outages: Outages) -> None:
        self.shards = shards
        self.outages = outages
        self.asked = anyio.Event()


class Feeds:
    """Keeps the feeds of one node.

    Args:
        redis: where the heads are asked.
        settings: shards, `route_ttl_ms`, `send_buffer_soft_bytes`.
        ear: hears the channels.
        audiences: target → positions, as delivery reads it; a feed is entered here while it is heard.
        ask_head: has MongoDB asked for the head of a target, which is not below a seq.
        catch_up: is told of each position that has fallen behind.
        outages: waits between failed tries.
        roll: is told of each session that subscribes to a topic, or leaves it.
        groups: shards whose Redis is lost and found together; None for all of them.
    """

    def __init__(
        self,
        redis: Redis,
        settings: Settings,
        ear: Ear,
        audiences: MutableMapping[bytes, list[Position]],
        ask_head: Callable[[str, Callable[[int | None], None], int], None],
        catch_up: Callable[[Position], None],
        outages: Outages,
        roll: Roll = UNTOLD,
        groups: Sequence[range] | None = None,
    ) -> None:
        self._keys = [Keys(settings.prefix, shard) for shard in range(settings.shards)]
        self._round_s = settings.route_ttl_ms / _ROUNDS_A_LIFE / 1000
        self._held_max_bytes = settings.send_buffer_soft_bytes
        self._ear = ear
        self._audiences = audiences
        self._ask_head = ask_head
        self._catch_up = catch_up
        self._groups = [_Group(shards, one) for shards, one in outages_of(groups or [range(settings.shards)], outages)]
        self._roll = roll
        self._script = redis.register_script(lua.source("heads"))
        self._places: dict[str, _Place] = {}
        self._by_channel: dict[str, _Place] = {}
        self._kept: set[str] = set()
        self._eras = [b""] * len(self._keys)
        FEEDS.set_function(lambda: len(self._places))
        SUBSCRIPTIONS.set_function(self._subscriptions)

    def _subscriptions(self) -> int:
        return sum([len(place.feed) for target, place in self._places.items() if target not in self._kept])

    # -- called by sessions ------------------------------------------------------------------------------------------

    def hear(self, target: str, outlet: Outlet, tell: Callable[[Feed], None]) -> None:
        """Have `tell` told of the target's feed as soon as it may be joined, at once where it is heard already.

        The feed is kept for the outlet from now on, until it joins and leaves, or is withdrawn.
        """
        feed = (self._places.get(target) or self._open(target)).feed
        feed.waiting[outlet] = tell
        if feed.position.started:
            tell(feed)

    def keep(self, target: str) -> None:
        """Hear a target from now on, whether or not anybody joins."""
        self._kept.add(target)
        self._open(target)

    def outlets(self, topic: str) -> Collection[Outlet]:
        """Return the sessions that have subscribed to a topic here."""
        place = self._places.get(TOPIC_PREFIX + topic)
        return () if place is None else place.feed.outlets

    def withdraw(self, target: str, outlet: Outlet) -> None:
        """Forget somebody who asked to hear of a target and has not joined."""
        place = self._places.get(target)
        if place is not None and outlet in place.feed.waiting:
            del place.feed.waiting[outlet]
            self._close_if_left(place)

    def leave(self, hearing: Hearing) -> None:
        """Have a session hear of a target no more."""
        hearing.feed.leave(hearing)
        place = self._places.get(hearing.feed.position.target)
        if place is not None:
            self._close_if_left(place)

    # -- called by the subscriber ------------------------------------------------------------------------------------

    def heard(self, channel: str) -> None:
        """A channel that was asked for is subscribed."""
        place = self._by_channel.get(channel)
        if place is not None:
            self._doubt((place,))

    def subscribed(self, shards: Collection[int]) -> None:
        """All channels of some shards are subscribed, after a loss maybe."""
        self._doubt([place for place in self._places.values() if place.shard in shards])

    # -- run by the edge ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ask for heads until cancelled: of those in doubt as soon as they are, of all once a round."""
        async with anyio.create_task_group() as tasks:
            for group in self._groups:
                tasks.start_soon(self._run, group)

    async def _run(self, group: _Group) -> None:
        while True:
            await self._ear.subscribed(group.shards.start)
            group.asked = anyio.Event()
            here = [place for place in self._places.values() if place.shard in group.shards]
            places = [place for place in here if place.doubtful and self._may_begin(place)]
            if not places:
                with anyio.move_on_after(self._round_s):
                    await group.asked.wait()
                    continue
                # Those that have not started wait for their channel, or for MongoDB.
                places = [place for place in here if place.feed.position.started]
            try:
                await self._ask(places)
            except OUTAGE as exc:
                await group.outages.wait("redis", exc)
            else:
                group.outages.over()

    def _may_begin(self, place: _Place) -> bool:
        """Tell whether whoever waits for a feed may be told that it is heard."""
        return place.feed.position.started or place.channel not in self._ear.refused

    async def _ask(self, places: Sequence[_Place]) -> None:
        """Ask Redis for some heads, and compare.

        Raises:
            RedisError, OSError: when it did not say all of them; those in doubt stay so.
        """
        for shard, keys in enumerate(self._keys):
            here = [place for place in places if place.shard == shard]
            for first in range(0, len(here), BATCH_MAX):
                some = here[first : first + BATCH_MAX]
                # What is doubted from here on is asked again: this answer may be older.
                doubted = [place.doubtful for place in some]
                for place in some:
                    place.doubtful = False
                try:
                    era, *heads = await self._script(keys=[keys.era(), *(place.seq_key for place in some)])
                except OUTAGE:
                    for place, was in zip(some, doubted, strict=True):
                        place.doubtful |= was
                    raise
                self._note_era(shard, era)
                for place, was, head in zip(some, doubted, heads, strict=True):
                    self._told(place, int(head) if head else None, doubtful=was)

    def _note_era(self, shard: int, era: bytes) -> None:
        """Have heads compared again when an era has ended: those told in it may have been short of what is stored."""
        if not era or era == self._eras[shard]:
            return
        if self._eras[shard]:
            self._doubt([place for place in self._places.values() if place.shard == shard])
        self._eras[shard] = era

    def _told(self, place: _Place, head: int | None, *, doubtful: bool) -> None:
        if place.feed.gone:
            return
        if head is None:
            if doubtful:
                # What stands below where everybody is needs no look.
                above = min(position.at for position in place.feed.audience) if place.feed.position.started else 0
                self._ask_head(place.feed.position.target, partial(self._found, place), above)
        elif doubtful:
            self._reach(place, head)
        else:
            place.reached, before = head, place.reached
            self._reach(place, before)

    def _found(self, place: _Place, head: int | None) -> None:
        """MongoDB told a head; None when it cannot just now."""
        if place.feed.gone:
            return
        if head is None:
            self._doubt((place,))
        else:
            self._reach(place, head)

    def _reach(self, place: _Place, head: int) -> None:
        """Bring a feed to a head; from there on it may be joined."""
        feed = place.feed
        if feed.position.started:
            compare(feed.audience, head, self._catch_up)
        elif feed.overfilled:
            feed.empty()
            self._doubt((place,))
        else:
            feed.start(head)
            for tell in list(feed.waiting.values()):
                tell(feed)

    def _doubt(self, places: Iterable[_Place]) -> None:
        for place in places:
            place.doubtful = True
            self._groups[place.shard if len(self._groups) > 1 else 0].asked.set()

    # -- the table ---------------------------------------------------------------------------------------------------

    def _open(self, target: str) -> _Place:
        keys = self._keys[shard_of_id(target_id(target), len(self._keys))]
        channel = keys.all_channel() if target == ALL else keys.topic_channel(target_id(target))
        feed = Feed(target, self._held_max_bytes, self._catch_up, UNTOLD if target == ALL else self._roll)
        place = _Place(feed, channel, keys.seq(target), keys.shard)
        self._places[target] = self._by_channel[channel] = place
        self._audiences[target.encode()] = feed.audience
        self._ear.hear(channel)
        return place

    def _close_if_left(self, place: _Place) -> None:
        feed = place.feed
        target = feed.position.target
        if feed or target in self._kept:
            return
        feed.gone = True
        del self._places[target], self._by_channel[place.channel], self._audiences[target.encode()]
        self._ear.drop(place.channel)
