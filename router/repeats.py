"""Telling a thing a few times and then only counting it: what keeps an outage or an attack from filling a disk.

Of each kind of line the first few in an interval are let through; how many more there were is told when the interval is over.
Pure: the clock is the caller's, and so is the writing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

KINDS_MAX: Final = 1_000
"""Most kinds told apart at once; those beyond share one. A program has about a hundred, times its shards."""

Kind = tuple[tuple[str, str], ...]
"""What tells lines apart, as keys and values of the line that tells how many were suppressed."""

OTHERS: Final[Kind] = (("of", "others"),)


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Lines of a kind that were not written.

    Attributes:
        kind: which.
        count: how many.
        level: the level of the last of them.
    """

    kind: Kind
    count: int
    level: int


@dataclass(slots=True)
class _Interval:
    began_s: float
    lines: int = 0
    level: int = 0


class Repeats:
    """The intervals of all kinds.

    Args:
        most: lines of a kind let through in an interval.
        interval_s: how long one lasts, from the kind's first line on.
        clock: seconds that only grow.
    """

    def __init__(self, most: int, interval_s: float, clock: Callable[[], float]) -> None:
        self._most = most
        self._interval_s = interval_s
        self._clock = clock
        self._intervals: dict[Kind, _Interval] = {}
        self._over: list[Suppressed] = []

    def admit(self, kind: Kind, level: int) -> bool:
        """Tell whether a line of this kind is to be written now; one that is not is counted."""
        now_s = self._clock()
        if kind not in self._intervals and len(self._intervals) >= KINDS_MAX:
            kind = OTHERS
        interval = self._intervals.get(kind)
        if interval is None or self._is_over(interval, now_s):
            self._end(kind)
            interval = self._intervals[kind] = _Interval(now_s)
        interval.lines += 1
        interval.level = level
        return interval.lines <= self._most

    def take_over(self, *, all_of_them: bool = False) -> list[Suppressed]:
        """Return what was suppressed in intervals that are over, or in all, and forget it: the caller tells it."""
        now_s = self._clock()
        for kind in [kind for kind, each in self._intervals.items() if all_of_them or self._is_over(each, now_s)]:
            self._end(kind)
        over, self._over = self._over, []
        return over

    def _is_over(self, interval: _Interval, now_s: float) -> bool:
        return now_s - interval.began_s >= self._interval_s

    def _end(self, kind: Kind) -> None:
        interval = self._intervals.pop(kind, None)
        if interval is not None and interval.lines > self._most:
            self._over.append(Suppressed(kind, interval.lines - self._most, interval.level))
