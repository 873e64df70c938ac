"""Erasing a person: sessions, routes, counters, inbox, cursors, subscriptions, and what stands of them in streams.

It works on Redis and MongoDB alone, beside services that are running or not. There is no list of what has been done: a pass
looks everywhere, from where messages come in to where they end, and removes what it finds. Who was cut off, or wants to be
sure, runs it again; where nothing is left, nothing is done.

Theory of operation. There are three things that a pass cannot remove: a message that collect has taken and not stored yet; an
entry of `in` that is addressed to others too, and stays in its place in their order; a session whose edge has not heard the
kick, or is still writing its last acks. So passes follow each other. Between two of them everything that collect had taken when
the pass looked, and every entry kept for others, has to be through, and no live
route may be left; what came of it, the next pass finds. Two passes in a row that find nothing are the end, half a second
apart where anything has been found before.

What collect has in hand is seen nowhere, since its entry has just been removed. But the position of its group moves behind
each batch, and to the end of the stream where nothing stands in it: once it has come as far as the stream had when the pass
looked, or has moved at all, the batch of that moment is through. (An earlier version's entries in hand are pending there.)

What may come after that: messages and sessions that are new (whoever is to be gone must be given no messages and no tokens),
and what a process still has in hand that was frozen or cut off all the while, and is let go on. Another run removes it.

Counters are removed as well. The seq of the next message is never below those of before all the same: it is drawn by the clock,
in µs (`lua/sequence.lua`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

import lua
from router.cursors import Cursors
from router.directory import read_routes
from router.inbox import Inbox
from router.keys import Keys
from router.kick import KICKED, Kick, kick
from router.later import Later
from router.settings import Settings
from router.shards import shard_of_id
from router.subscriptions import Subscriptions
from router.targets import USER_PREFIX

WAIT_S: Final = 10.0
"""How long others are waited for, unless told otherwise."""

_REASON: Final = "kicked: the person has been erased"
"""What a client is told whose session ends."""

_PAUSE_S: Final = 0.5
"""Between two passes where there was anything: an edge that was kicked writes its last acks in this time."""

_POLL_S: Final = 0.05
_EMPTY_PASSES: Final = 2

_SLICE: Final = 200
"""Most entries that one call looks at, so that Redis is not kept from its work."""

_SLICE_BYTES: Final = 1_048_576

_KEEP, _REPLACE = "keep", "replace"


class Forgotten(msgspec.Struct, frozen=True):
    """What was removed, and whether all of it is gone.

    Attributes:
        user: who.
        complete: nothing is left. If not, `left` says what is in the way: run it again.
        nodes: those that were told to close sessions.
        messages: documents of the inbox, and messages that waited for their time.
        cursors: documents of the cursors.
        topics: standing subscriptions.
        routes: those that led to no living node any more; the others are removed by the nodes themselves.
        keys: keys of Redis: counters, copied cursors; seqs given to a batch in hand; and entries of presence.
        entries: stream → entries removed.
        replaced: stream → entries that are addressed to others too, and now to them alone.
        left: in words.
    """

    user: str
    complete: bool
    nodes: tuple[str, ...]
    messages: int
    cursors: int
    topics: int
    routes: int
    keys: int
    entries: dict[str, int]
    replaced: dict[str, int]
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a stream's reader has to get before what it has in hand is through.

    Attributes:
        stream: its key.
        role: `collect` or `dispatch`; the group's name too.
        lease: held while somebody may have a batch.
        position: how far it had come.
        last: the last id that the stream had given, "" where nothing of it is ever in hand.
        kept: the last entry that is addressed to others too, or "".
        kept_count: how many those are.
    """

    stream: str
    role: str
    lease: str
    position: str
    last: str
    kept: str
    kept_count: int


@dataclass(slots=True)
class _Count:
    nodes: set[str] = field(default_factory=set)
    messages: int = 0
    cursors: int = 0
    topics: int = 0
    routes: int = 0
    keys: int = 0
    entries: dict[str, int] = field(default_factory=dict)
    replaced: dict[str, int] = field(default_factory=dict)

    @property
    def sum(self) -> int:
        """How much was found, sessions aside: a node that was told may hold none any more."""
        found = self.messages + self.cursors + self.topics + self.routes + self.keys
        return found + sum(self.entries.values()) + sum(self.replaced.values())


class Forgetting:
    """Erases one person.

    Args:
        redis: where all but the documents is.
        inbox: MongoDB's messages.
        cursors: MongoDB's cursors.
        subscriptions: MongoDB's standing subscriptions.
        later: MongoDB's messages that wait for their time.
        settings: prefix and shards.
        user: who, as an id that was checked.
    """

    def __init__(
        self,
        redis: Redis,
        inbox: Inbox,
        cursors: Cursors,
        subscriptions: Subscriptions,
        later: Later,
        settings: Settings,
        user: str,
    ) -> None:
        # The driver's types name the replies of every protocol at once.
        self._redis: Any = redis
        self._inbox = inbox
        self._cursors = cursors
        self._subscriptions = subscriptions
        self._later = later
        self._settings = settings
        self._user = user
        self._target = USER_PREFIX + user
        self._shards = [Keys(settings.prefix, shard) for shard in range(settings.shards)]
        self._own = self._shards[shard_of_id(user, settings.shards)]
        self._script = redis.register_script(lua.source("forget"))
        self._presence = redis.register_script(lua.source("presence_forget"))
        self._count = _Count()

    async def run(self, wait_s: float = WAIT_S) -> Forgotten:
        """Erase, and return when nothing is left, or what is in the way has not gone within `wait_s`.

        Raises:
            RedisError, OSError, PyMongoError: in an outage; it is unknown what is gone, so run it again.
        """
        marks, empty = await self._pass(), 0
        deadline_s = time.monotonic() + wait_s
        while empty < _EMPTY_PASSES:
            left = await self._await_others(marks, deadline_s)
            await anyio.sleep(_PAUSE_S if self._count.sum or self._count.nodes else 0)
            before = self._count.sum
            marks = await self._pass()
            empty = empty + 1 if self._count.sum == before and not left else 0
            if not empty and time.monotonic() > deadline_s:
                return self._told(left or ["something came up again and again: are messages still being sent?"])
        return self._told([])

    def _told(self, left: Sequence[str]) -> Forgotten:
        count = self._count
        return Forgotten(
            user=self._user,
            complete=not left,
            nodes=tuple(sorted(count.nodes)),
            messages=count.messages,
            cursors=count.cursors,
            topics=count.topics,
            routes=count.routes,
            keys=count.keys,
            entries=count.entries,
            replaced=count.replaced,
            left=tuple(left),
        )

    # -- a pass: in the order in which messages move, so that none moves past it ---------------------------------------

    async def _pass(self) -> list[_Mark]:
        """Remove all that is there; return what is to be waited for before the next one."""
        self._count.nodes.update(await kick(self._redis, self._settings, Kick(self._user, KICKED, _REASON)))
        marks = [await self._scan_for_others(keys, "in", keys.intake(), "collect") for keys in self._shards]
        marks += [await self._scan_for_others(keys, "fast", keys.fast(), "dispatch") for keys in self._shards]
        for keys in self._shards:
            for name, stream in (
                ("out", keys.out()),
                ("dead", keys.dead()),
                ("offline", keys.offline()),
                ("trace", keys.trace()),
                ("events", keys.events()),
            ):
                await self._scan(name, stream, _REPLACE)
        await self._remove_keys()
        await self._remove_routes()
        await self._remove_presence()
        # What waits comes into the inbox when it is due.
        self._count.messages += await self._later.forget(self._target)
        while removed := await self._inbox.forget(self._target):
            self._count.messages += removed
        self._count.cursors += await self._cursors.forget(self._user)
        self._count.topics += await self._subscriptions.forget(self._user)
        return marks

    async def _scan_for_others(self, keys: Keys, name: str, stream: str, role: str) -> _Mark:
        kept, last_kept = await self._scan(name, stream, _KEEP)
        # Asked behind the scan: what was in hand when it looked is not above this.
        last = await self._last_given(stream) if stream == keys.intake() else ""
        return _Mark(stream, role, keys.lease(role), await self._position(stream, role), last, last_kept, kept)

    async def _scan(self, name: str, stream: str, shared: str) -> tuple[int, str]:
        """Look through what a stream holds now; return how many entries were kept for others, and the last one's id."""
        newest = await self._redis.xrevrange(stream, count=1)
        until = newest[0][0] if newest else b"-"
        last, kept, last_kept = b"-" if newest else b"", 0, b""
        while last:
            begin = last if last == b"-" else b"(" + last
            args = [self._target, begin, until, _SLICE, _SLICE_BYTES, shared]
            last, removed, replaced, kept_here, last_here = await self._script(keys=[stream], args=args)
            _add(self._count.entries, name, removed)
            _add(self._count.replaced, name, replaced)
            kept, last_kept = kept + kept_here, last_here or last_kept
        return kept, last_kept.decode()

    async def _remove_keys(self) -> None:
        keys = self._own
        fields = [name for name in await self._redis.hkeys(keys.pending()) if name.startswith(f"{self._target} ".encode())]
        if fields:
            self._count.keys += await self._redis.hdel(keys.pending(), *fields)
        self._count.keys += await self._redis.delete(keys.seq(self._target), keys.ack(self._user))

    async def _remove_routes(self) -> None:
        """Remove the routes to nodes that are gone. A live one tells where a session is; its edge removes it with the last."""
        routes = await read_routes(self._redis, self._settings, self._user)
        gone = [route.node for route in routes if not route.live]
        if gone:
            self._count.routes += await self._redis.zrem(self._own.route(self._user), *gone)

    async def _remove_presence(self) -> None:
        """Take the person out of who is there; what that tells in `events` for whoever watches, the next pass removes."""
        keys, user = self._own, self._user
        names = [keys.nodes(), keys.online(), keys.leaving(), keys.events(), keys.route(user)]
        self._count.keys += await self._presence(keys=names, args=[user, self._settings.events_max])

    # -- between two passes ------------------------------------------------------------------------------------------

    async def _await_others(self, marks: Sequence[_Mark], deadline_s: float) -> list[str]:
        """Wait until nobody has anything in hand that a pass cannot see; return what is in the way at the deadline."""
        while True:
            left = await self._in_the_way(marks)
            if not left or time.monotonic() > deadline_s:
                return left
            await anyio.sleep(_POLL_S)

    async def _in_the_way(self, marks: Sequence[_Mark]) -> list[str]:
        nodes = await self._live_nodes()
        left = [f"node {node} holds a session and has not closed it" for node in nodes]
        return left + [why for mark in marks if (why := await self._unsettled(mark))]

    async def _live_nodes(self) -> list[str]:
        return [route.node for route in await read_routes(self._redis, self._settings, self._user) if route.live]

    async def _unsettled(self, mark: _Mark) -> str:
        """Return why a batch may still bring something of the person, or ""."""
        if mark.kept and await self._redis.xrange(mark.stream, mark.kept, mark.kept):
            return f"{mark.kept_count} entries of {mark.stream} are addressed to others too: {mark.role} has to take them first"
        if not mark.kept and not await self._redis.exists(mark.lease):
            # Nobody has a batch. Whoever comes next finds what is still in the stream.
            return ""
        position = await self._position(mark.stream, mark.role)
        has_moved = position != mark.position or _as_numbers(position) >= _as_numbers(mark.last)
        in_hand = not has_moved or await self._is_pending(mark.stream, mark.role, max(mark.last, mark.kept, key=_as_numbers))
        return f"{mark.role} has not finished its batch of {mark.stream}: is it running?" if in_hand else ""

    async def _position(self, stream: str, group: str) -> str:
        """Return the id up to which a group's reader has come; "" where it has never been there."""
        groups = await _unless_missing(self._redis.xinfo_groups(stream))
        return next((found["last-delivered-id"].decode() for found in groups if found["name"] == group.encode()), "")

    async def _last_given(self, stream: str) -> str:
        """Return the last id that a stream has given, whether the entry still stands there or not; "" where there is none."""
        found = await _unless_missing(self._redis.xinfo_stream(stream))
        return found["last-generated-id"].decode() if found else ""

    async def _is_pending(self, stream: str, group: str, last: str) -> bool:
        """Tell whether any entry up to this id has been taken and is not acknowledged."""
        return bool(last and await _unless_missing(self._redis.xpending_range(stream, group, "-", last, 1)))


async def _unless_missing(asked: Any) -> Any:  # noqa: ANN401 - the driver's replies
    """Return the reply, or nothing where there is no such stream or group."""
    try:
        return await asked
    except ResponseError as exc:
        if "no such key" in str(exc) or str(exc).startswith("NOGROUP"):
            return []
        raise


def _add(counts: dict[str, int], name: str, count: int) -> None:
    counts[name] = counts.get(name, 0) + count


def _as_numbers(entry_id: str) -> tuple[int, int]:
    """Return a stream's id as it is ordered; "" is below all."""
    ms, _, sequence = entry_id.partition("-")
    return int(ms or 0), int(sequence or 0)
