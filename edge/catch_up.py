"""Bringing positions that are behind to their goals, a page of the inbox at a time.

Who is behind waits in a queue; `READERS` tasks take turns with it, one page each, and put back at its end whoever is not
there yet. So a user with a hundred thousand missed messages costs one page of memory and takes its turn like everybody
else, and MongoDB never has more than `READERS` queries of this edge at once, however many sessions a lost Redis left behind.

A client that reads slowly is parked: its next page is read when most of the last one has left. That is all the backpressure
there is, and it is enough, because what comes live meanwhile is not kept (`edge.position`).

MongoDB away: whoever is behind stays behind and loses nothing, and everybody else goes on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import anyio
import structlog
from bson.errors import BSONError

from edge.frames import CaughtUp, encode, text_frame
from edge.heads import READERS
from edge.position import Outlet, Position
from edge.stride import Stride
from edge.tracing import Tracing
from router.collapse import Ahead
from router.inbox import Inbox
from router.metrics import REPLAYED
from router.mongo_client import STORE_OUTAGE
from router.outage import Outages
from router.settings import Settings
from router.stored import Page, Traced

log = structlog.get_logger(__name__)

_PAGE_MAX_BYTES: Final = 262_144
_PAGES_A_BUFFER: Final = 4
"""A page is at most this part of `send_buffer_max_bytes`, so that replay alone never makes a consumer count as slow."""

_LOOK_AGAIN_S: Final = 0.05
"""How soon to look again at clients that have not read their last page yet."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What is known of a position that is behind, besides where it stands.

    Attributes:
        announce: its client is told when it has arrived.
        stride: how far the next page looks.
        ahead: what is known of the keyed messages that are still to come.
    """

    announce: bool
    stride: Stride
    ahead: Ahead


class CatchUp:
    """Reads the inbox for positions that are behind.

    Args:
        inbox: where it is read.
        reading: lets so many of the edge's queries run at once.
        settings: `send_buffer_max_bytes`.
        outages: waits while MongoDB is away.
        tracing: is told of messages that are traced; None where nobody is.
        clock: tells the time in seconds, for how long a page took.
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
    ) -> None:
        self._inbox = inbox
        self._reading = reading
        self._outages = outages
        self._tracing = tracing
        self._clock = clock
        self._page_max_bytes = max(1, min(_PAGE_MAX_BYTES, settings.send_buffer_max_bytes // _PAGES_A_BUFFER))
        # In order, and each position in one of the three at most.
        self._queue: OrderedDict[Position, Replay] = OrderedDict()
        self._parked: dict[Position, Replay] = {}
        self._in_hand: set[Position] = set()
        self._asked = anyio.Event()
        self._some_parked = anyio.Event()

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
        self._in_hand.discard(position)

    async def run(self) -> None:
        """Read until cancelled."""
        async with anyio.create_task_group() as tasks:
            for _ in range(READERS):
                tasks.start_soon(self._read)
            tasks.start_soon(self._unpark)

    async def _read(self) -> None:
        while True:
            position, replay = await self._next()
            if position.outlet.gone:
                continue
            if self._is_full(position):
                self._parked[position] = replay
                self._some_parked.set()
                continue
            self._in_hand.add(position)
            try:
                done = await self._read_page(position, replay)
            except STORE_OUTAGE as exc:
                self._put_back(position, replay)
                await self._outages.wait("mongo", exc)
                continue
            except (BSONError, KeyError, TypeError, AttributeError):
                # A document that is none of ours; whoever else reads goes on.
                log.exception("page_refused", target=position.target, after=position.at)
                self._in_hand.discard(position)
                position.outlet.unreadable()
                continue
            self._outages.over()
            if done:
                self._in_hand.discard(position)
            else:
                await anyio.sleep(replay.stride.rest_s)
                self._put_back(position, replay)

    async def _next(self) -> tuple[Position, Replay]:
        while not self._queue:
            if self._asked.is_set():
                # One that is not set yet has waiters: all readers wait for the same.
                self._asked = anyio.Event()
            await self._asked.wait()
        return self._queue.popitem(last=False)

    def _is_full(self, position: Position) -> bool:
        return position.outlet.backlog_bytes > self._page_max_bytes

    async def _read_page(self, position: Position, replay: Replay) -> bool:
        """Send one page; tell whether there is nothing more to do for the position."""
        goal, at, outlet = position.goal, position.at, position.outlet
        if goal is None:
            return True
        until = replay.stride.until(at, goal)
        async with self._reading:
            began_s = self._clock()
            # The goal is the highest head known: whatever is stored up to there will be read before the position is live.
            limits = (replay.stride.most, self._page_max_bytes)
            page = await self._inbox.page(position.target, at, until, *limits, head=goal, ahead=replay.ahead)
            took_s = self._clock() - began_s
        if outlet.gone or position not in self._in_hand:
            return True
        if self._is_full(position):
            # By other targets of the session, read at the same time: a page each might be more than it may have.
            return False
        replay.stride.went(len(page.messages) + page.left_out, page.reached - at, took_s, whole=page.whole)
        _put_page(outlet, page)
        position.read(page.reached)
        if self._tracing is not None and page.traced:
            self._tracing.replayed(position, _not_passing(outlet, page))
        if page.whole:
            for frame, exclude in position.arrive(until):
                outlet.put(frame, exclude)
        arrived = position.goal is None
        told = [encode(CaughtUp(position.target, position.at))] if arrived and replay.announce else []
        outlet.out.extend(told)
        if outlet.out:
            REPLAYED.inc(outlet.flush() - len(told))
        return arrived

    async def _unpark(self) -> None:
        while True:
            if not self._parked:
                # Most of the time: an edge with nothing to do is not to wake up for it.
                self._some_parked = anyio.Event()
                await self._some_parked.wait()
            await anyio.sleep(_LOOK_AGAIN_S)
            for position in [position for position in self._parked if not self._is_full(position)]:
                self._put(position, self._parked.pop(position))


def _put_page(outlet: Outlet, page: Page) -> None:
    """Put a page's messages out, each but for whom it passes by."""
    if not page.excluded:
        outlet.out.extend([text_frame(frame) for _, frame in page.messages])
        return
    for seq, frame in page.messages:
        outlet.put(text_frame(frame), page.excluded.get(seq, ""))


def _not_passing(outlet: Outlet, page: Page) -> list[Traced]:
    """Return what is traced of a page and does not pass an outlet by."""
    return [one for one in page.traced if page.excluded.get(one.seq, "") not in outlet.names]
