"""How far one page of a replay looks ahead. Pure.

A query for the next thousand messages up to the goal, months away, would be enough for MongoDB, which stops reading there. The
embedded store reads all that lies in between before it gives the first: a replay of n messages would cost n², and hold up
whoever stores. So a page looks no further than it takes to find about a page: seqs are microseconds, and how many messages
came in the last stretch tells how far the next one may go. Somebody who missed little needs a query or two for it.
"""

from __future__ import annotations

from typing import Final

FIRST_US: Final = 600_000_000
"""Ten minutes: most who come back were not away for longer, and are served with one query."""

_GROWTH_MAX: Final = 64
"""How much further the next page looks at most: years of silence are passed in five."""


class Stride:
    """The look-ahead of one replay.

    Args:
        page_max: most messages a page.
    """

    __slots__ = ("_page_max", "_us")

    def __init__(self, page_max: int) -> None:
        self._page_max = page_max
        self._us = FIRST_US

    def until(self, at: int, goal: int) -> int:
        """Return the seq up to which the next page is to look."""
        return min(goal, at + self._us)

    def went(self, count: int, distance: int, *, whole: bool) -> None:
        """Note that a page found so many messages over a distance in seqs; `whole` when there were no more in it."""
        if whole:
            self._us *= max(1, min(_GROWTH_MAX, self._page_max // max(1, count)))
        else:
            self._us = max(1, distance)
