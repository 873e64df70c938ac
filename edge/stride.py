"""How far one page of a replay looks ahead, and how much it takes. Pure.

A query for the next thousand messages up to the goal, months away, would be enough for MongoDB, which stops reading there. The
embedded store reads all that lies in between before it gives the first: a replay of n messages would cost n², and hold up
whoever stores. So a page looks no further than it takes to find about a page: seqs are microseconds, and how many messages
came in the last stretch tells how far the next one may go. Somebody who missed little needs a query or two for it.

Whoever stores a new message may have to wait behind a page, and a live message with him. So a page is as large as the store
gives within `PAGE_S`: a thousand messages where it is quick, and a fraction of it where it is slow or has much to do. There
a long replay also rests for as long as its last page took, and leaves the others half of the store.
"""

from __future__ import annotations

from typing import Final

FIRST_US: Final = 600_000_000
"""Ten minutes: most who come back were not away for longer, and are served with one query."""

PAGE_MAX: Final = 1_000
"""Most messages a page."""

PAGE_MIN: Final = 64
"""Fewest messages a page: below that, asking costs more than what is asked for."""

PAGE_S: Final = 0.01
"""How long a page may take before the next one is to be smaller."""

_QUICK_S: Final = PAGE_S / 4
"""What takes no longer is no burden to anybody."""

_REST_MAX_S: Final = 0.1
"""Longest rest: a page that took much longer was a look into the unknown, and the next one will not."""

_PAGE_FIRST: Final = 256

_GROWTH_MAX: Final = 64
"""How much further the next page looks at most: years of silence are passed in five."""


class Stride:
    """The pace of one replay.

    Attributes:
        most: most messages of the next page.
        rest_s: how long to wait before it.
    """

    __slots__ = ("_us", "most", "rest_s")

    def __init__(self) -> None:
        self._us = FIRST_US
        self.most = _PAGE_FIRST
        self.rest_s = 0.0

    def until(self, at: int, goal: int) -> int:
        """Return the seq up to which the next page is to look."""
        return min(goal, at + self._us)

    def went(self, count: int, distance: int, took_s: float, *, whole: bool) -> None:
        """Note what a page found.

        Args:
            count: how many messages.
            distance: over how many seqs.
            took_s: how long the store took for it.
            whole: whether there were no more up to where it was to look.
        """
        if whole:
            self._us *= max(1, min(_GROWTH_MAX, self.most // max(1, count)))
        else:
            self._us = max(1, distance)
        if took_s > PAGE_S:
            self.most = max(PAGE_MIN, self.most // 2)
        elif took_s < _QUICK_S:
            self.most = min(PAGE_MAX, self.most * 2)
        self.rest_s = min(took_s, _REST_MAX_S) if took_s > _QUICK_S else 0.0
