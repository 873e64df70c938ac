"""The hot path: payload lines in, frames on sockets out.

What makes it fast, in the order of what it saves:

- One write a session and chunk. A chunk is everything that one read from Redis completed; each frame is put into its
  session's `out` list, and at the end of the chunk each session that got something joins its list and writes once.
- The frame's header and bytes are built once a message, however many sessions get it.
- A line is split, never parsed: the target is looked up as bytes, and the JSON behind it is sent as it came. Only what came
  over the fast lane is read, once (`edge.fast`), and opts only where they are not those of the line before.
- Per session and message there is one comparison, that of `Position.take`. All else is in the branches behind it.

What many users here share comes as one line (`router.lines`), and is put out as the lines that it stands for.

A line that nobody here hears of is passed over: its route is older than the session's end, or it is this edge's own probe,
whose arrival alone is what matters (`edge.deafness`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final, Protocol

import structlog

from edge.client_frames import SEQ_MAX
from edge.fast import fault_of
from edge.figures import write_out
from edge.frames import text_frame
from edge.position import DELIVER, NOWHERE, Outlet, Position, Verdict
from router.lines import MANY, NO_OPTS, TRANSIENT, read_opts, split_many
from router.metrics import EXPIRED, REFUSED

log = structlog.get_logger(__name__)

_NO_OPTS = NO_OPTS.encode()
_TRANSIENT = TRANSIENT.encode()
_MANY = MANY.encode()

_MANY_MAX_BYTES: Final = 1_048_576
"""About how many bytes of frames a line of many becomes before they are written: 64 KiB for 1,000 users are 64 MiB."""


class Tells(Protocol):
    """Who is told of messages that are traced; see `edge.tracing`."""

    def came(self, position: Position, seq: int | None, frame: bytes, *, put_out: bool) -> None:
        """A message came for a session, and was put out to it at once or not."""

    def expired(self, target: str, seq: int | None, frame: bytes) -> None:
        """A message came when its time was over."""


class Delivery:
    """Delivers payload lines to the sessions that hear of their targets.

    Args:
        audiences: target → positions; the live table, read for every line.
        catch_up: is told of each position that has fallen behind.
        tracing: is told of messages that are traced; None where nobody is.
        notices: word in the place of the target → is told what stands in the place of the frame, when the chunk is delivered
            (`edge.replaced`, `edge.kicked`).
    """

    def __init__(
        self,
        audiences: Mapping[bytes, Sequence[Position]],
        catch_up: Callable[[Position], None],
        tracing: Tells | None = None,
        notices: Mapping[bytes, Callable[[bytes], None]] | None = None,
    ) -> None:
        self._audiences = audiences
        self._catch_up = catch_up
        self._tracing = tracing
        self._notices = notices or {}
        self._overfull: list[Outlet] = []
        self._noted: list[tuple[bytes, bytes]] = []

    def receive(self, payloads: Iterable[bytes]) -> None:
        """Deliver the payloads of one chunk, and write to every session that gets something of it."""
        dirty: list[Outlet] = []
        for payload in payloads:
            self._deliver(payload.split(b"\n"), dirty)
        # The audiences must not change above, where they are walked; from here on they may.
        write_out(dirty)
        while self._overfull:
            self._overfull.pop().overfull()
        if self._noted:
            self._tell_noted()

    def _note(self, word: bytes, payload: bytes) -> None:
        if word in self._notices:
            self._noted.append((word, payload))

    def _tell_noted(self) -> None:
        noted, self._noted = self._noted, []
        for word, payload in noted:
            try:
                self._notices[word](payload)
            except (ValueError, RecursionError):  # the latter is the decoder's word for what is nested too deeply
                log.exception("line_refused", head=payload[:64])

    def _deliver(  # noqa: C901, PLR0912 - the hot path
        self, lines: Iterable[bytes], dirty: list[Outlet], *, of_many: bool = False
    ) -> None:
        """Put the lines' frames out.

        One of many that stands among those `of_many` is passed over: a few hundred bytes could stand for 2^40 lines.

        One loop and nearly no calls: what a call costs, it costs for every message.
        """
        audiences, now_ms = self._audiences, time.time_ns() // 1_000_000
        # What the opts say is kept for the lines behind, which mostly have the same: those of the fast lane expire by the ms.
        opts_before, unusual, unchecked = _NO_OPTS, False, False
        for line in lines:
            try:
                target, prev_text, seq_text, opts, payload = line.split(b" ", 4)
                audience = audiences.get(target)
                if audience is None:
                    if target == _MANY and not of_many:
                        self._deliver_many(opts, payload, dirty)
                    else:
                        self._note(target, payload)
                    continue
                transient = seq_text == _TRANSIENT
                prev, seq = (0, 0) if transient else (int(prev_text), int(seq_text))
                if not 0 <= prev <= seq <= SEQ_MAX:
                    raise ValueError("no such place in an order")  # noqa: TRY301 - a call costs, and all end alike
                if opts != opts_before:
                    wishes = read_opts(opts)
                    opts_before, unusual, unchecked = opts, wishes.is_unusual(now_ms), wishes.fast
            except ValueError:
                # Only a collect of another make writes such a line, or somebody who should not; the lines around it are good.
                log.exception("line_refused", head=line[:64])
                continue
            if unusual:
                self._deliver_unusual(line, audience, dirty, now_ms)
                continue
            if unchecked and (fault := fault_of(payload)):
                _refuse(target, fault)
                continue
            frame = text_frame(payload)
            for position in audience:
                if transient:
                    verdict = DELIVER if position.last < NOWHERE else position.take_transient(frame)
                elif prev <= position.last < seq:  # as `take` has it
                    position.last, verdict = seq, DELIVER
                else:
                    verdict = position.take(prev, seq, frame)
                if verdict is DELIVER:
                    out = position.outlet.out
                    if not out:
                        dirty.append(position.outlet)
                    out.append(frame)
                elif verdict is Verdict.GAP:
                    self._catch_up(position)
                elif verdict is Verdict.OVERFULL:
                    self._overfull.append(position.outlet)

    def _deliver_many(self, opts: bytes, payload: bytes, dirty: list[Outlet]) -> None:
        """Deliver the lines that a line of many stands for, and write out before their frames become too much.

        Raises:
            ValueError: when it is none.
        """
        lines = split_many(opts, payload)
        at_once = 1 + _MANY_MAX_BYTES // (len(payload) - payload.index(b" "))
        while some := list(islice(lines, at_once)):
            self._deliver(some, dirty, of_many=True)
            if len(some) == at_once:
                # Between two lines nobody walks an audience.
                write_out(dirty)
                dirty.clear()

    def _deliver_unusual(self, line: bytes, audience: Sequence[Position], dirty: list[Outlet], now_ms: int) -> None:
        """Deliver a line that is traced, or passes somebody by, or do not as its time is over.

        Apart, so that all others pay nothing for it.
        """
        target, prev_text, seq_text, opts, payload = line.split(b" ", 4)
        seq = None if seq_text == _TRANSIENT else int(seq_text)
        prev = 0 if seq is None else int(prev_text)
        wishes = read_opts(opts)
        tells = self._tracing if wishes.traced else None
        if wishes.is_over(now_ms):
            self._pass_over(audience, prev, seq or 0)
            if tells is not None:
                tells.expired(target.decode(), seq, payload)
            return
        if wishes.fast and (fault := fault_of(payload)):
            _refuse(target, fault)
            return
        frame = text_frame(payload)
        for position in audience:
            had = len(position.outlet.out)
            self._put_out(position, (prev, seq), frame, wishes.exclude, dirty)
            if tells is not None and not (wishes.exclude and wishes.exclude in position.outlet.names):
                tells.came(position, seq, payload, put_out=len(position.outlet.out) > had)

    def _put_out(
        self, position: Position, place: tuple[int, int | None], frame: bytes, exclude: str, dirty: list[Outlet]
    ) -> None:
        """Do what `_deliver` does, for one position, with a frame that may pass somebody by; `place` is (prev, seq)."""
        prev, seq = place
        outlet = position.outlet
        verdict = position.take_transient(frame, exclude) if seq is None else position.take(prev, seq, frame, exclude)
        if verdict is DELIVER:
            had_none = not outlet.out
            outlet.put(frame, exclude)
            if had_none and outlet.out:
                dirty.append(outlet)
        elif verdict is Verdict.GAP:
            self._catch_up(position)
        elif verdict is Verdict.OVERFULL:
            self._overfull.append(outlet)

    def _pass_over(self, audience: Sequence[Position], prev: int, seq: int) -> None:
        EXPIRED.inc()
        for position in audience:
            if position.pass_over(prev, seq):
                self._catch_up(position)


def _refuse(target: bytes, fault: str) -> None:
    REFUSED.inc()
    log.warning("fast_line_refused", to=target.decode(errors="replace"), reason=fault)
