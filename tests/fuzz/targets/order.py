"""A session's place in an order: whatever is lost, repeated or late on the way, it gets each message once and in its turn.

Bytes are steps: something is stored, comes, comes again or never, a page of the inbox is read. `test_session_machine.py` has a
whole edge do the same, by steps that hypothesis chooses; this is the rule by itself, a thousand times as fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge.position import DELIVER, Position, Verdict
from tests.fuzz.inputs import Choices
from tests.unit.edge.outlets import KeptOutlet

_HELD_MAX_BYTES: Final = 60
_STEPS_MAX: Final = 200

SEEDS: Final = (
    bytes((0, 1, 0, 1, 6, 0, 0, 1, 0, 2, 0, 0, 1, 0, 5)),
    bytes((0, 1, 7, 0, 0, 1, 1, 1, 4, 3, 5, 2)),
    bytes((6, 1, 9, 0, 3, 1, 2, 0, 4, 5, 2, 0, 1, 3)),
    bytes((0, 1, 0, 1, 0, 1, 7, 1, 1, 1, 0, 1, 5, 1, 5, 1, 5, 9)),
    bytes((6, 0, 8, 1, 0, 1, 8, 1, 1, 0, 4, 1, 5, 5)),
)


@dataclass(frozen=True)
class _Stored:
    """A message that the inbox has; `over` when its time is."""

    prev: int
    seq: int
    over: bool


class _Play:
    """An inbox, a channel that cannot be trusted, and a session."""

    def __init__(self, choices: Choices) -> None:
        self.sent: list[int] = []
        self.since: int | None = None
        self.ended = False
        self._choices = choices
        self._stored: list[_Stored] = []
        self._late: list[_Stored] = []
        self._position = Position(KeptOutlet(), "user:a", _HELD_MAX_BYTES)

    @property
    def head(self) -> int:
        """The highest seq stored."""
        return self._stored[-1].seq if self._stored else 0

    def step(self) -> None:
        """Take the next step."""
        kind = self._choices.byte() % 10
        if kind < 4 or kind == 8:
            self._store(arrives=kind in {0, 1, 8}, late=kind == 3, over=kind == 8)
        elif kind == 4 and self._late:
            self._come(self._late.pop(self._choices.byte() % len(self._late)))
        elif kind == 5:
            self._read_page(1 + self._choices.byte() % 4)
        elif kind in {6, 7} and self.since is None:
            self._start(behind=kind == 7)
        elif kind == 9 and self._stored:
            self._come(self._stored[self._choices.byte() % len(self._stored)])

    def finish(self) -> None:
        """Compare heads, as after any loss, and read until it has arrived."""
        if self.since is None:
            self._start(behind=False)
        position = self._position
        if position.goal is None and self.head > position.at:
            position.fall_behind(self.head)
        elif position.goal is not None:
            position.raise_goal(self.head)
        for _ in range(2 * len(self._stored) + 2):
            self._read_page(2)
        assert position.goal is None
        assert position.at == max(self.head, self.since or 0)

    def owed(self) -> list[int]:
        """Return what the session is to have had by now."""
        return [one.seq for one in self._stored if one.seq > (self.since or 0) and not one.over]

    def _store(self, *, arrives: bool, late: bool, over: bool) -> None:
        one = _Stored(self.head, self.head + 1 + self._choices.byte() % 3, over)
        self._stored.append(one)
        if arrives:
            self._come(one)
        elif late:
            self._late.append(one)

    def _come(self, one: _Stored) -> None:
        if one.over:
            self._position.pass_over(one.prev, one.seq)
            return
        frame = b"%d" % one.seq
        verdict = self._position.take(one.prev, one.seq, frame)
        if verdict is DELIVER:
            self._send([frame])
        self.ended |= verdict is Verdict.OVERFULL

    def _start(self, *, behind: bool) -> None:
        self.since = self.head
        if not behind:
            self._send(self._position.start(self.head))
            return
        self.since = self._stored[self._choices.byte() % len(self._stored)].seq if self._stored else 0
        self._send(self._position.start_after(self.since, self.head))

    def _read_page(self, most: int) -> None:
        position = self._position
        goal, at = position.goal, position.at
        if goal is None or self.since is None:
            return
        found = [one for one in self._stored if at < one.seq <= goal and not one.over]
        self._send([b"%d" % one.seq for one in found[:most]])
        whole = len(found) <= most
        reached = goal if whole else found[most - 1].seq
        position.read(reached)
        if whole:
            self._send([frame for frame, _ in position.arrive(reached)])

    def _send(self, frames: list[bytes]) -> None:
        for frame in frames:
            seq = int(frame)
            assert seq > max([self.since or 0, *self.sent[-1:]]), (seq, self.since, self.sent)
            self.sent.append(seq)


def run(data: bytes) -> None:
    """Take the steps, and bring the session to the end of what there is."""
    choices = Choices(data[: 3 * _STEPS_MAX])
    play = _Play(choices)
    while choices and not play.ended:
        play.step()
    if not play.ended:
        play.finish()
        assert play.sent == play.owed()
