"""What this edge tells of messages sent with `trace 1`: delivered, replayed, expired, acked (`router.trace`).

Nothing here is on the way of a message. Whoever delivers or replays leaves a note; a task of its own writes the notes behind,
a few times a second, and what cannot be written is dropped and counted.

Some of it nobody announces: that a message which a session could not take at once (it registered, or was behind) was put out
after all, and that a client has acknowledged one. Both stand in the session, and are looked up there while there is anything
to look for: so neither the session nor the hot path knows of traces, and such an event may be dated `TICK_S` late.

Bounds: `NOTES_MAX` notes wait, and `WATCHED_MAX` messages are watched, each for `WATCH_S`; beyond that the newest notes and the
messages watched longest are given up.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import anyio

from edge.position import Outlet, Position
from router.lines import id_of
from router.metrics import TRACE_LOST
from router.stored import Traced
from router.targets import USER_PREFIX
from router.trace import Stage, TraceEvent, Tracer

TICK_S: Final = 0.02
"""How often notes are written and sessions are looked at, while there are any: what a person cannot see."""

NOTES_MAX: Final = 10_000
WRITE_MAX: Final = 1_000
"""Events in one write."""

WATCHED_MAX: Final = 1_000
WATCH_S: Final = 60.0
"""How long after its delivery an ack is waited for: many a client never sends one."""


class Hearer(NamedTuple):
    """Who has the session of an outlet, and up to which seq of its user's the client has acknowledged."""

    session: str
    device: str | None
    acked: int


@dataclass(frozen=True, slots=True)
class _Watched:
    """A message that a session is to put out (`delivered`) or its client to acknowledge (`acked`)."""

    position: Position
    event: TraceEvent
    since_s: float

    @property
    def over(self) -> bool:
        return self.position.outlet.gone or time.monotonic() - self.since_s > WATCH_S

    def has_come(self, hearer: Hearer | None) -> bool:
        seq, position = self.event.seq or 0, self.position
        if self.event.stage == Stage.ACKED:
            return hearer is not None and hearer.acked >= seq
        # One without a seq goes out as soon as the session starts.
        return position.started and (not seq or position.began < seq <= position.at)


class Tracing:
    """The trace events of one edge.

    Args:
        tracer: writes them.
        node: the node id.
        hearer_of: tells whose an outlet is; None where it is nobody's alone, but a feed's.
    """

    def __init__(self, tracer: Tracer, node: str, hearer_of: Callable[[Outlet], Hearer | None]) -> None:
        self._tracer = tracer
        self._node = node
        self._hearer_of = hearer_of
        self._notes: list[TraceEvent] = []
        self._watched: deque[_Watched] = deque(maxlen=WATCHED_MAX)
        self._noted = anyio.Event()

    # -- called by delivery and catch-up -----------------------------------------------------------------------------

    def came(self, position: Position, seq: int | None, frame: bytes, *, put_out: bool) -> None:
        """Tell that a live message was put out to a session, or watch whether it will be: it may be on its way still.

        Args:
            position: the session's place in the order of the message's target.
            seq: the message's, if it has one.
            frame: the message, as JSON.
            put_out: whether the session was sent it just now.
        """
        event = TraceEvent(id_of(frame), position.target, Stage.DELIVERED, _now_us(), seq=seq)
        if put_out:
            self._put_out(position, event)
        elif not position.started or position.at < (seq or 0):
            self._watch(position, event)

    def expired(self, target: str, seq: int | None, frame: bytes) -> None:
        """Tell that a live message came when its time was over."""
        self._note(TraceEvent(id_of(frame), target, Stage.EXPIRED, _now_us(), seq=seq, why="its time was over when it came"))

    def replayed(self, position: Position, messages: Sequence[Traced]) -> None:
        """Tell what of a page was just put out to a session, and what was left out as its time is over."""
        for message in messages:
            event = TraceEvent(id_of(message.frame), position.target, Stage.REPLAYED, _now_us(), seq=message.seq)
            if message.alive:
                self._put_out(position, event)
            else:
                self._note(replace(event, stage=Stage.EXPIRED, why="its time was over when it was to be replayed"))
        if messages:
            self._forget_live(position, {message.seq for message in messages})

    # -- run by the edge ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write notes until cancelled."""
        while True:
            if not self._notes and not self._watched:
                self._noted = anyio.Event()
                await self._noted.wait()
            await anyio.sleep(TICK_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what can be told now, and try no part of it twice."""
        self._look()
        while self._notes:
            events, self._notes = self._notes[:WRITE_MAX], self._notes[WRITE_MAX:]
            await self._tracer.write(self._node, events)

    def _look(self) -> None:
        """Note what has come of those that are watched."""
        watched, self._watched = self._watched, deque(maxlen=WATCHED_MAX)
        for one in watched:
            hearer = self._hearer_of(one.position.outlet)
            if not one.has_come(hearer):
                if not one.over:
                    self._watched.append(one)
            elif one.event.stage == Stage.ACKED:
                self._note(replace(one.event, at_us=_now_us()))
            else:
                self._put_out(one.position, replace(one.event, at_us=_now_us()))

    def _put_out(self, position: Position, event: TraceEvent) -> None:
        """Note a message that a session was sent, and watch for its ack."""
        hearer = self._hearer_of(position.outlet)
        if hearer is None:
            self._note(event)
            return
        event = replace(event, session=hearer.session, device=hearer.device)
        self._note(event)
        # What is said of acks is said of the user's own.
        if event.seq is not None and event.to.startswith(USER_PREFIX):
            self._watch(position, replace(event, stage=Stage.ACKED))

    def _watch(self, position: Position, event: TraceEvent) -> None:
        self._watched.append(_Watched(position, event, time.monotonic()))
        self._noted.set()

    def _forget_live(self, position: Position, seqs: set[int]) -> None:
        """What was read from the inbox does not come live any more."""

        def stays(one: _Watched) -> bool:
            return one.position is not position or one.event.seq not in seqs or one.event.stage == Stage.ACKED

        self._watched = deque(filter(stays, self._watched), maxlen=WATCHED_MAX)

    def _note(self, event: TraceEvent) -> None:
        if len(self._notes) >= NOTES_MAX:
            TRACE_LOST.inc()
            return
        self._notes.append(event)
        self._noted.set()


def _now_us() -> int:
    return time.time_ns() // 1_000
