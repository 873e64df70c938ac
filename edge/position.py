"""Where one session stands in one target's order: what is delivered, what is dropped, what is read from the inbox.

The one rule: a message is delivered when `prev <= last < seq`.

    last = 10    prev 10, seq 11    delivered; last is 11
                 prev 10, seq 11    a duplicate: the session has it (dispatch published twice)
                 prev 12, seq 13    a gap: 12 was missed, as when Redis was away for a moment

                 start                        take: a gap
    REGISTERING ───────▶ LIVE ◀────────────────────────────▶ BEHIND
         │                        arrived (at the goal)         ▲
         └──────────────────────────────────────────────────────┘ start_after: a client comes back

A position that is behind sends nothing that comes live: every durable message is in MongoDB before it is published, so it
remembers how far to read (`goal`), and whoever reads (`edge.catch_up`) brings it there. The last of what came live it keeps, up
to a bound, so that it arrives although messages never cease; a hundred thousand missed ones cost it no more than that.

While a session registers, its position holds what arrives. Only Redis can tell the head, and a message published between
its answer and the welcome must neither overtake the welcome nor get lost; `start` sorts it out.

A message that passes somebody by (`exclude`) is judged like any other, so that the one behind it shows no gap. Only where it is
put out, now or out of what was kept, the outlet is asked for its names.

Pure: takes values and returns judgements; the figures kept in memory are all it touches.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum, auto
from typing import Final, Protocol

from router.metrics import DUPLICATES, GAPS


class Verdict(Enum):
    """What becomes of a message at one session."""

    DELIVER = auto()
    """Send it."""
    GAP = auto()
    """Drop it: something before it was missed, and from now on the session is behind. Have it caught up."""
    BEHIND = auto()
    """Drop it: it will be read from the inbox in its turn."""
    DUPLICATE = auto()
    """Drop it: the session has that seq."""
    HELD = auto()
    """Nothing yet: it waits for the head."""
    OVERFULL = auto()
    """Too much waits for the head: end the session."""


DELIVER: Final = Verdict.DELIVER
"""For the hot path: a name of the module is found faster than a member of an Enum."""

_TAIL_MAX_BYTES: Final = 65_536
"""Most bytes of live messages kept while behind: those of the moments that reading the last page takes."""

NOWHERE: Final = 2**63
"""`last` of a position that is not live: above any seq, so that the one comparison sends it down the slow path."""


_Kept = tuple[int, int, bytes, str]
"""A live message that waits: prev, seq, frame, whom it passes by."""


class Outlet(Protocol):
    """What a position belongs to: something that frames can be put into.

    Attributes:
        out: frames of the chunk in hand, message frames first; emptied by `flush`.
    """

    out: list[bytes]

    @property
    def names(self) -> Collection[str]:
        """What a producer calls it by who has a message pass it by: `session:<id>`, `device:<user>,<device>`."""

    @property
    def backlog_bytes(self) -> int:
        """How much waits to be sent."""

    @property
    def gone(self) -> bool:
        """Whether nothing can be sent any more."""

    def put(self, frame: bytes, exclude: str) -> None:
        """Put a frame into `out`, but not for whom it passes by; "" for nobody."""

    def flush(self) -> int:
        """Send what is in `out`, and return how many frames that were: each as often as there are sessions that got it."""

    def write(self, data: bytes) -> None:
        """Send whole frames."""

    def overfull(self) -> None:
        """End the session: more is held for it than it may have."""

    def unreadable(self) -> None:
        """End the session: what it lacks cannot be read."""


class Position:
    """One session's place in one target's order.

    Args:
        outlet: whose position it is.
        target: whose order it is.
        held_max_bytes: most bytes that may wait for the head.

    Attributes:
        began: the seq that it began behind.
        last: the last seq put out while it is live; above any seq otherwise, for the one comparison of the hot path.
        goal: the seq that a position which is behind has to reach at least; None when it is not behind.
    """

    __slots__ = (
        "_at",
        "_held",
        "_held_bytes",
        "_held_max_bytes",
        "_tail",
        "_tail_bytes",
        "began",
        "goal",
        "last",
        "outlet",
        "target",
    )

    def __init__(self, outlet: Outlet, target: str, held_max_bytes: int) -> None:
        self.outlet = outlet
        self.target = target
        self.began = 0
        self.last = NOWHERE
        self.goal: int | None = None
        self._at = 0
        self._held: list[_Kept] | None = []
        self._held_bytes = 0
        self._held_max_bytes = held_max_bytes
        self._tail: list[_Kept] = []
        self._tail_bytes = 0

    @property
    def started(self) -> bool:
        """Whether the head is known."""
        return self._held is None

    @property
    def at(self) -> int:
        """The last seq put out, or passed over, live or not."""
        return self._at if self.last == NOWHERE else self.last

    def take(self, prev: int, seq: int, frame: bytes, exclude: str = "") -> Verdict:
        """Judge a message with a seq. The caller sends the frame when the verdict is DELIVER.

        Args:
            prev: of the message.
            seq: of the message.
            frame: what is kept where it cannot be sent now.
            exclude: whom it passes by. That changes nothing of the verdict: it is for the caller to leave out, then or now.
        """
        if prev <= self.last < seq:
            self.last = seq
            return DELIVER
        if self._held is not None:
            return self._hold(self._held, (prev, seq, frame, exclude))
        if self.goal is not None:
            self.goal = max(self.goal, seq)
            self._keep((prev, seq, frame, exclude))
            return Verdict.BEHIND
        if seq <= self.last:
            DUPLICATES.inc()
            return Verdict.DUPLICATE
        GAPS.inc()
        self.fall_behind(seq)
        self._keep((prev, seq, frame, exclude))
        return Verdict.GAP

    def pass_over(self, prev: int, seq: int) -> bool:
        """Count a message as seen that is not to be delivered: its time is over, and the next one names it as prev.

        Tells whether it shows a gap, as `take` does: what was missed before it may have all the time in the world.
        """
        if prev <= self.last < seq:
            self.last = seq
        elif self._held is not None or self.goal is not None:
            self.raise_goal(seq)
        elif seq > self.last:
            GAPS.inc()
            self.fall_behind(seq)
            return True
        return False

    def take_transient(self, frame: bytes, exclude: str = "") -> Verdict:
        """Judge a message without a seq: it has no order to keep, but does not overtake the welcome either."""
        return DELIVER if self._held is None else self._hold(self._held, (0, 0, frame, exclude))

    def start(self, head: int) -> list[bytes]:
        """Begin behind `head` and return the frames that were held and are due now, in order; it may be behind after that.

        Sorted, because after Redis failed over, collect appends by seq what may be there already.
        """
        held, self._held = self._held or [], None
        # Where a loss was noted meanwhile: the head may have been read before it.
        goal, self.goal = self.goal, None
        self.began = self.last = head
        held.sort(key=lambda message: message[1])
        due = [one for one in held if one[1] == 0 or self.take(*one) is DELIVER]
        self._aim_at(goal)
        return self._frames(due)

    def start_after(self, since: int, head: int) -> list[bytes]:
        """Begin behind `since`, which the client has; it is behind when there is more. Return the transient frames due."""
        held, self._held = self._held or [], None
        goal, self.goal = self.goal, None
        self.began = self.last = since
        self._aim_at(max((goal or 0, head, *(seq for _, seq, _, _ in held))))
        return self._frames([one for one in held if one[1] == 0])

    def fall_behind(self, goal: int) -> None:
        """Take nothing live until `goal` is reached."""
        self._at = self.last
        self.last = NOWHERE
        self.goal = max(goal, self._at)

    def go_back(self, seq: int) -> None:
        """Have all behind `seq` read that a live position has let through."""
        self.fall_behind(self.last)
        self._at = seq

    def raise_goal(self, goal: int) -> None:
        """Note that there is more to read than a position which is behind, or registers, has heard of."""
        self.goal = max(goal, self.goal or 0)

    def read(self, seq: int) -> None:
        """Note that the inbox has been read and sent up to `seq`."""
        self._at = max(seq, self._at)

    def arrive(self, until: int) -> list[tuple[bytes, str]]:
        """Note that the inbox has nothing more up to `until`, and return the live frames that follow.

        Each comes with whom it passes by. If that reaches the goal, the position is live from here on, and `goal` is None.
        """
        self._at = max(until, self._at)
        due = self._follow()
        if self.goal is not None and self._at >= self.goal:
            self.last, self.goal = self._at, None
            self._tail, self._tail_bytes = [], 0
        return due

    def _follow(self) -> list[tuple[bytes, str]]:
        due: list[tuple[bytes, str]] = []
        for prev, seq, frame, exclude in sorted(self._tail):
            if prev <= self._at < seq:
                self._at = seq
                due.append((frame, exclude))
        return due

    def _frames(self, due: list[_Kept]) -> list[bytes]:
        return [frame for _, _, frame, exclude in due if not exclude or exclude not in self.outlet.names]

    def _keep(self, one: _Kept) -> None:
        size = len(one[2])
        self._tail_bytes += size
        if self._tail_bytes > _TAIL_MAX_BYTES:
            # The newest are of no use without those before them: begin anew, what is dropped will be read.
            self._tail, self._tail_bytes = [], size
        self._tail.append(one)

    def _aim_at(self, goal: int | None) -> None:
        if goal is not None and self.goal is None and goal > self.last:
            self.fall_behind(goal)
        elif goal is not None and self.goal is not None:
            self.raise_goal(goal)

    def _hold(self, held: list[_Kept], one: _Kept) -> Verdict:
        self._held_bytes += len(one[2])
        if self._held_bytes > self._held_max_bytes:
            held.clear()  # the session ends, so that none of it will be sent
            return Verdict.OVERFULL
        held.append(one)
        return Verdict.HELD
