"""Where one session stands in one target's order: what is delivered, what is dropped, what waits.

The one rule: a message is delivered when `prev <= last < seq`.

    last = 10    prev 10, seq 11    delivered; last is 11
                 prev 10, seq 11    a duplicate: the session has it (dispatch published twice)
                 prev 12, seq 13    a gap: 12 was missed, as when Redis was away for a moment

While a session registers, its position holds what arrives. Only Redis can tell the head, and a message published between
its answer and the welcome must neither overtake the welcome nor get lost; `start` sorts it out.

Pure: takes values and returns judgements; the figures kept in memory are all it touches.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, Protocol

from router.metrics import DUPLICATES, GAPS


class Verdict(Enum):
    """What becomes of a message at one session."""

    DELIVER = auto()
    """Send it."""
    GAP = auto()
    """Send it, and know that something between was missed."""
    DUPLICATE = auto()
    """Drop it: the session has that seq."""
    HELD = auto()
    """Nothing yet: it waits for the head."""
    OVERFULL = auto()
    """Too much waits for the head: end the session."""


DELIVER: Final = Verdict.DELIVER
"""For the hot path: a name of the module is found faster than a member of an Enum."""

_NOWHERE: Final = 2**63
"""`last` of a position that has not started: above any seq, so that the one comparison sends it down the slow path."""

_NO_SEQ: Final = 0
"""The seq of a transient message among those held; seqs are microseconds, so no other message has it."""


class Outlet(Protocol):
    """What a position belongs to: something that frames can be put into.

    Attributes:
        out: frames of the chunk in hand; emptied by `flush`.
    """

    out: list[bytes]

    def flush(self) -> None:
        """Send what is in `out`."""

    def overfull(self) -> None:
        """End the session: more is held for it than it may have."""


class Position:
    """One session's place in one target's order.

    Args:
        outlet: whose position it is.
        held_max_bytes: most bytes that may wait for the head.

    Attributes:
        last: the last seq put out.
    """

    __slots__ = ("_held", "_held_bytes", "_held_max_bytes", "last", "outlet")

    def __init__(self, outlet: Outlet, held_max_bytes: int) -> None:
        self.outlet = outlet
        self.last = _NOWHERE
        self._held: list[tuple[int, int, bytes]] | None = []
        self._held_bytes = 0
        self._held_max_bytes = held_max_bytes

    @property
    def started(self) -> bool:
        """Whether the head is known."""
        return self._held is None

    def take(self, prev: int, seq: int, frame: bytes) -> Verdict:
        """Judge a message with a seq. The caller sends the frame when the verdict is DELIVER or GAP."""
        if prev <= self.last < seq:
            self.last = seq
            return DELIVER
        if self._held is not None:
            return self._hold(self._held, prev, seq, frame)
        if seq <= self.last:
            DUPLICATES.inc()
            return Verdict.DUPLICATE
        GAPS.inc()
        self.last = seq
        return Verdict.GAP

    def pass_over(self, prev: int, seq: int) -> None:
        """Count a message as seen that is not to be delivered: its time is over, and the next one names it as prev."""
        if prev <= self.last < seq:
            self.last = seq

    def take_transient(self, frame: bytes) -> Verdict:
        """Judge a message without a seq: it has no order to keep, but does not overtake the welcome either."""
        return DELIVER if self._held is None else self._hold(self._held, _NO_SEQ, _NO_SEQ, frame)

    def start(self, head: int) -> list[bytes]:
        """Begin behind `head` and return the frames that were held and are due now, in order.

        Sorted, because after Redis failed over, collect appends by seq what may be there already.
        """
        held, self._held = self._held or [], None
        self.last = head
        held.sort(key=lambda message: message[1])
        due = (Verdict.DELIVER, Verdict.GAP)
        return [frame for prev, seq, frame in held if seq == _NO_SEQ or self.take(prev, seq, frame) in due]

    def _hold(self, held: list[tuple[int, int, bytes]], prev: int, seq: int, frame: bytes) -> Verdict:
        self._held_bytes += len(frame)
        if self._held_bytes > self._held_max_bytes:
            held.clear()  # the session ends, so that none of it will be sent
            return Verdict.OVERFULL
        held.append((prev, seq, frame))
        return Verdict.HELD
