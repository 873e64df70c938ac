"""The hot path: payload lines in, frames on sockets out.

What makes it fast, in the order of what it saves:

- One write a session and chunk. A chunk is everything that one read from Redis completed; each frame is put into its
  session's `out` list, and at the end of the chunk each session that got something joins its list and writes once.
- The frame's header and bytes are built once a message, however many sessions get it.
- A line is split, never parsed: the target is looked up as bytes, and the JSON behind it is sent as it came. Only what came
  over the fast lane is read, once (`edge.fast`).
- Per session and message there is one comparison (`Position.take`). All else is in the branches behind it.

A line that nobody here hears of is passed over: its route is older than the session's end, or it is this edge's own probe,
whose arrival alone is what matters (`edge.deafness`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from edge.fast import fault_of
from edge.figures import write_out
from edge.frames import text_frame
from edge.position import DELIVER, Outlet, Position, Verdict
from router.lines import NO_OPTS, TRANSIENT, expiry_of, is_fast, is_traced, looked_at, untraced
from router.metrics import EXPIRED, REFUSED

log = structlog.get_logger(__name__)

_NO_OPTS = NO_OPTS.encode()
_TRANSIENT = TRANSIENT.encode()


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
        delivered = 0
        for payload in payloads:
            for line in payload.split(b"\n"):
                try:
                    delivered += self._deliver(line, dirty)
                except ValueError:
                    # Only a collect of another make writes such a line; the lines around it are good.
                    log.exception("line_refused", head=line[:64])
        # The audiences must not change above, where they are walked; from here on they may.
        write_out(dirty, delivered)
        while self._overfull:
            self._overfull.pop().overfull()
        if self._noted:
            self._tell_noted()

    def _note(self, word: bytes, payload: bytes) -> int:
        if word in self._notices:
            self._noted.append((word, payload))
        return 0

    def _tell_noted(self) -> None:
        noted, self._noted = self._noted, []
        for word, payload in noted:
            try:
                self._notices[word](payload)
            except ValueError:
                log.exception("line_refused", head=payload[:64])

    def _deliver(self, line: bytes, dirty: list[Outlet]) -> int:  # noqa: C901 - the hot path: a call saved for every line
        """Put one line's frame out and return to how many sessions.

        Raises:
            ValueError: when it is not a payload line.
        """
        target, prev_text, seq_text, opts, payload = line.split(b" ", 4)
        audience = self._audiences.get(target)
        if audience is None:
            return self._note(target, payload)
        transient = seq_text == _TRANSIENT
        prev, seq = (0, 0) if transient else (int(prev_text), int(seq_text))
        if opts != _NO_OPTS:
            over = _is_over(opts)
            if not over and is_fast(opts) and (fault := fault_of(payload)):
                return self._refuse(target, fault)
            if self._tracing is not None and is_traced(opts):
                return self._deliver_traced(self._tracing, line, audience, dirty)
            if over:
                return self._pass_over(audience, prev, seq)
        frame = text_frame(payload)
        delivered = 0
        for position in audience:
            verdict = position.take_transient(frame) if transient else position.take(prev, seq, frame)
            if verdict is DELIVER:
                outlet = position.outlet
                if not outlet.out:
                    dirty.append(outlet)
                outlet.out.append(frame)
                delivered += 1
            elif verdict is Verdict.GAP:
                self._catch_up(position)
            elif verdict is Verdict.OVERFULL:
                self._overfull.append(position.outlet)
        return delivered

    def _refuse(self, target: bytes, fault: str) -> int:
        REFUSED.inc()
        log.warning("fast_line_refused", to=target.decode(errors="replace"), reason=fault)
        return 0

    def _pass_over(self, audience: Sequence[Position], prev: int, seq: int) -> int:
        EXPIRED.inc()
        for position in audience:
            if position.pass_over(prev, seq):
                self._catch_up(position)
        return 0

    def _deliver_traced(self, tells: Tells, line: bytes, audience: Sequence[Position], dirty: list[Outlet]) -> int:
        """Deliver the line as if it was not traced, and tell of it: so lines that are not traced pay for nothing."""
        target, prev, seq_text, opts, frame = line.split(b" ", 4)
        seq = None if seq_text == _TRANSIENT else int(seq_text)
        over = _is_over(opts)
        had = [len(position.outlet.out) for position in audience]
        delivered = self._deliver(b" ".join((target, prev, seq_text, untraced(looked_at(opts)), frame)), dirty)
        if over:
            tells.expired(target.decode(), seq, frame)
            return delivered
        for position, length in zip(audience, had, strict=True):
            tells.came(position, seq, frame, put_out=len(position.outlet.out) > length)
        return delivered


def _is_over(opts: bytes) -> bool:
    expires_ms = expiry_of(opts)
    return expires_ms is not None and expires_ms <= time.time_ns() // 1_000_000
