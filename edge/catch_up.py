"""Bringing positions that are behind to their goals, a page of the inbox at a time.

Who is behind waits in a queue; `READERS` tasks take turns with it, one page each, and put back at its end whoever is not
there yet. So a user with a hundred thousand missed messages costs one page of memory and takes its turn like everybody
else, and MongoDB never has more than `READERS` queries of this edge at once, however many sessions a lost Redis left behind.

What many hear, topics and `all`, is read once for all who lack it (`edge.replays`). A target has one read at a time, and who
lacks what nobody has read yet waits for it, without a reader of its own, then looks again.

A client that reads slowly is parked: its next page is read when most of the last one has left. That is all the backpressure
there is, and it is enough, because what comes live meanwhile is not kept (`edge.position`).

MongoDB away: whoever is behind stays behind and loses nothing, and everybody else goes on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import perf_counter
from typing import Final

import anyio
import structlog
from bson.errors import BSONError

from edge.frames import CaughtUp, encode
from edge.heads import READERS
from edge.position import Outlet, Position
from edge.replays import AGE_S, Part, Replays, part_of, stretch_of
from edge.stride import Stride
from edge.tracing import Tracing
from router.collapse import Ahead
from router.inbox import Inbox
from router.metrics import REPLAYED
from router.mongo_client import STORE_OUTAGE
from router.outage import Outages
from router.settings import Settings
from router.stored import Page
from router.targets import USER_PREFIX

log = structlog.get_logger(__name__)

_PAGE_MAX_BYTES: Final = 262_144
_PAGES_A_BUFFER: Final = 4
"""A page is at most this part of `send_buffer_soft_bytes`, so that replay alone never makes a consumer count as slow."""

_LOOK_AGAIN_S: Final = 0.05
"""How soon to look again at clients that have not read their last page yet."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What is known of a position that is behind, besides where it stands.

    Attributes:
        announce: its client is told when it has arrived.
        stride: how far the next page looks.
        ahead: what is known of the keyed messages that are still to come.

    Of what many hear, both are those of whoever read what was sent last.
    """

    announce: bool
    stride: Stride
    ahead: Ahead


class CatchUp:
    """Reads the inbox for positions that are behind.

    Args:
        inbox: where it is read.
        reading: lets so many of the edge's queries run at once.
        settings: `send_buffer_soft_bytes`.
        outages: waits while MongoDB is away.
        tracing: is told of messages that are traced; None where nobody is.
        clock: tells the time in seconds, for how long a page took and how old it is.
        allowed: returns when sessions may be sent anything: at once, but where it is unknown who of them may stay.
    """

    def __init__(
        self,
        inbox: Inbox,
        reading: anyio.CapacityLimiter,
        settings: Settings,
        outages: Outages,
        tracing: Tracing | None = None,
        *,
        clock: Callable[[], float] = perf_counter,
        allowed: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._allowed = allowed
        self._inbox = inbox
        self._reading = reading
        self._outages = outages
        self._tracing = tracing
        self._clock = clock
        self._page_max_bytes = max(1, min(_PAGE_MAX_BYTES, settings.send_buffer_soft_bytes // _PAGES_A_BUFFER))
        self._replays = Replays(self._page_max_bytes)
        # In order, and each position in one of the four at most.
        self._queue: OrderedDict[Position, Replay] = OrderedDict()
        # Target that is being read for many → who waits for that.
        self._waiting: dict[str, dict[Position, Replay]] = {}
        self._parked: dict[Position, Replay] = {}
        self._in_hand: set[Position] = set()
        self._asked = anyio.Event()
        self._some_parked = anyio.Event()
        self._some_kept = anyio.Event()

    def ask(self, position: Position, *, announce: bool = False) -> None:
        """Have a position that has just fallen behind brought to its goal; `announce` sends `caught_up` there."""
        self._put(position, Replay(announce, Stride(), Ahead()))

    def _put(self, position: Position, replay: Replay) -> None:
        self._queue[position] = replay
        self._asked.set()

    def _put_back(self, position: Position, replay: Replay) -> None:
        """Have a position that is in hand wait for its next turn, unless it was forgotten meanwhile."""
        if position in self._in_hand:
            self._in_hand.remove(position)
            self._put(position, replay)

    def forget(self, position: Position) -> None:
        """Read nothing more for a position whose session has ended, or hears of the target no longer."""
        self._queue.pop(position, None)
        self._parked.pop(position, None)
        self._waiting.get(position.target, {}).pop(position, None)
        self._in_hand.discard(position)

    async def run(self) -> None:
        """Read until cancelled."""
        async with anyio.create_task_group() as tasks:
            for _ in range(READERS):
                tasks.start_soon(self._read)
            tasks.start_soon(self._unpark)
            tasks.start_soon(self._let_go)

    async def _read(self) -> None:
        while True:
            await self._somebody()
            if self._allowed is not None:
                await self._allowed()
            if not self._queue:
                continue
            position, replay = self._queue.popitem(last=False)
            if position.outlet.gone:
                continue
            if self._is_full(position):
                self._parked[position] = replay
                self._some_parked.set()
                continue
            if position.target.startswith(USER_PREFIX):
                if await self._turn(position, replay):
                    self._put_back(position, replay)
            else:
                await self._share(position, replay)

    async def _turn(self, position: Position, replay: Replay) -> bool:
        """Read and send a page, and rest; tell whether the position, in hand, is to have another turn."""
        self._in_hand.add(position)
        try:
            done = await self._read_page(position, replay)
        except STORE_OUTAGE as exc:
            self._put_back(position, replay)
            await self._outages.wait("mongo", exc)
            return False
        except (BSONError, KeyError, TypeError, AttributeError):
            # A document that is none of ours; whoever else reads goes on.
            log.exception("page_refused", target=position.target, after=position.at)
            self._in_hand.discard(position)
            position.outlet.unreadable()
            return False
        self._outages.over()
        if done:
            self._in_hand.discard(position)
        else:
            await anyio.sleep(replay.stride.rest_s)
        return not done

    async def _share(self, position: Position, replay: Replay) -> None:
        """Send what others have read; where nobody has, wait for who does, or read it for them."""
        target = position.target
        if self._send_kept(position, replay):
            # Nothing else awaits, and a crowd is served one after the other.
            await anyio.lowlevel.checkpoint()
        elif target in self._waiting:
            self._waiting[target][position] = replay
        else:
            self._waiting[target] = {}
            try:
                # To the end of its rest, or of its wait for MongoDB: nobody else takes the store's share of the time.
                again = await self._turn(position, replay)
            finally:
                self._wake(target)
                del self._waiting[target]
            if again:
                # Behind those who waited: one of them reads next, however far this one still has to go.
                self._put_back(position, replay)

    def _send_kept(self, position: Position, replay: Replay) -> bool:
        """Send the next of what is kept, and queue the position for more; tell whether there was any."""
        goal, at = position.goal, position.at
        stretch = None if goal is None else self._replays.find(position.target, at, goal, self._clock())
        if stretch is None or goal is None:
            return False
        if not self._send(position, replay, stretch.part(at, goal, datetime.now(UTC))):
            self._put(position, replace(replay, stride=stretch.stride, ahead=stretch.ahead))
        return True

    def _wake(self, target: str) -> None:
        """Have those look again who wait for a target to be read."""
        waiting, self._waiting[target] = self._waiting[target], {}
        for position, replay in waiting.items():
            self._put(position, replay)

    async def _somebody(self) -> None:
        while not self._queue:
            if self._asked.is_set():
                # One that is not set yet has waiters: all readers wait for the same.
                self._asked = anyio.Event()
            await self._asked.wait()

    def _is_full(self, position: Position) -> bool:
        return position.outlet.backlog_bytes > self._page_max_bytes

    async def _read_page(self, position: Position, replay: Replay) -> bool:
        """Send one page; tell whether there is nothing more to do for the position."""
        goal, at, outlet = position.goal, position.at, position.outlet
        if goal is None:
            return True
        wished = replay.stride.until(at, goal)
        until = self._replays.free(position.target, at, wished)
        # What somebody else knows of ahead may be more than this one will come to read.
        ahead = replay.ahead if replay.ahead.head <= goal else Ahead()
        async with self._reading:
            began_s = self._clock()
            # The goal is the highest head known: whatever is stored up to there will be read before the position is live.
            limits = (replay.stride.most, self._page_max_bytes)
            page = await self._inbox.page(position.target, at, until, *limits, head=goal, ahead=ahead)
            took_s = self._clock() - began_s
        if until == wished or not page.whole:
            # Else it ended where others had begun, which says nothing of how much there is.
            replay.stride.went(len(page.messages) + page.left_out, page.reached - at, took_s, whole=page.whole)
        part = self._part_of(position.target, page, (at, until), (goal, ahead), replay.stride, began_s)
        if outlet.gone or position not in self._in_hand:
            return True
        if self._is_full(position):
            # By other targets of the session, read at the same time: a page each might be more than it may have.
            return False
        return self._send(position, replay, part)

    def _part_of(
        self, target: str, page: Page, span: tuple[int, int], known: tuple[int, Ahead], stride: Stride, read_s: float
    ) -> Part:
        """Return what a page that was just read gives its reader; that of a target many hear is kept for the others."""
        if target not in self._waiting:
            return part_of(page, span[1])
        stretch = stretch_of(page, span, known, stride, read_s)
        self._replays.keep(target, stretch)
        self._some_kept.set()
        self._wake(target)
        return stretch.part(*span, datetime.now(UTC))

    def _send(self, position: Position, replay: Replay, part: Part) -> bool:
        """Send what a position lacks; tell whether it has arrived."""
        outlet = position.outlet
        _put_part(outlet, part)
        position.read(part.reached)
        if self._tracing is not None and part.traced:
            self._tracing.replayed(position, part.for_whom(outlet.names))
        if part.whole:
            for frame, exclude in position.arrive(part.reached):
                outlet.put(frame, exclude)
        arrived = position.goal is None
        told = [encode(CaughtUp(position.target, position.at))] if arrived and replay.announce else []
        outlet.out.extend(told)
        if outlet.out:
            REPLAYED.inc(outlet.flush() - len(told))
        return arrived

    async def _let_go(self) -> None:
        """Have nothing kept for longer than it counts."""
        while True:
            if not self._replays.bytes:
                self._some_kept = anyio.Event()
                await self._some_kept.wait()
            await anyio.sleep(AGE_S)
            self._replays.drop_old(self._clock())

    async def _unpark(self) -> None:
        while True:
            if not self._parked:
                # Most of the time: an edge with nothing to do is not to wake up for it.
                self._some_parked = anyio.Event()
                await self._some_parked.wait()
            await anyio.sleep(_LOOK_AGAIN_S)
            for position in [position for position in self._parked if not self._is_full(position)]:
                self._put(position, self._parked.pop(position))


def _put_part(outlet: Outlet, part: Part) -> None:
    """Put a part's messages out, each but for whom it passes by."""
    if not part.excluded:
        outlet.out.extend(part.frames)
        return
    for seq, frame in zip(part.seqs, part.frames, strict=True):
        outlet.put(frame, part.excluded.get(seq, ""))
