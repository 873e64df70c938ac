"""Which cursors have moved and are not written yet.

    note ─▶ waiting ──mature──▶ due ──take──▶ in hand ──done──▶ (written)
               └────────hasten───▲              │
                                 └──give_back───┘

Pure bookkeeping. A cursor that moves again before it is written is written once. There is a bound: beyond it the cursors
that have waited longest are given up, which only makes their messages come once more.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from router.cursors import CursorKey

Seqs = dict[CursorKey, int]

_NONE: Final = -1
"""Below any seq."""


class Acks:
    """Cursors on their way to be written.

    Args:
        most: most of them that may wait.

    Attributes:
        dropped: how many were given up so far.
    """

    def __init__(self, most: int) -> None:
        self.dropped = 0
        self._most = most
        # Each in the order of the first note since the last write.
        self._waiting: Seqs = {}
        self._due: Seqs = {}
        self._in_hand: Seqs = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._due) + len(self._in_hand)

    @property
    def due(self) -> int:
        """How many are to be written now."""
        return len(self._due)

    def note(self, key: CursorKey, seq: int) -> None:
        """Have a cursor moved to `seq`, or further if it is on its way there."""
        seqs = self._due if key in self._due else self._waiting
        seqs[key] = max(seq, seqs.get(key, _NONE))
        if len(self._waiting) + len(self._due) > self._most:
            self._drop_oldest()

    def find(self, key: CursorKey) -> int | None:
        """Return where a cursor is on its way to; None where it is not."""
        seq = max(seqs.get(key, _NONE) for seqs in (self._waiting, self._due, self._in_hand))
        return None if seq == _NONE else seq

    def hasten(self, key: CursorKey) -> None:
        """Make a cursor due, if it waits: its device has gone, and may come back through another edge at once."""
        if key in self._waiting:
            self._due[key] = self._waiting.pop(key)

    def mature(self) -> None:
        """Make all due."""
        self._due.update(self._waiting)
        self._waiting.clear()

    def take(self, most: int) -> Seqs:
        """Return up to `most` that are due, to be written now. Then call `done` or `give_back`."""
        self._in_hand = dict(islice(self._due.items(), most))
        for key in self._in_hand:
            del self._due[key]
        return self._in_hand

    def done(self) -> None:
        """Note that those taken are written."""
        self._in_hand = {}

    def give_back(self) -> None:
        """Note that those taken were not written, or that it is not known."""
        later, self._due, self._in_hand = self._due, self._in_hand, {}
        for key, seq in later.items():
            self._due[key] = max(seq, self._due.get(key, _NONE))
        for key in self._due.keys() & self._waiting.keys():
            self._due[key] = max(self._due[key], self._waiting.pop(key))
        while len(self._waiting) + len(self._due) > self._most:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        oldest = self._due or self._waiting
        del oldest[next(iter(oldest))]
        self.dropped += 1
