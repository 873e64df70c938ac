"""How much the API takes on at once: beyond it is 503, and whoever asks comes again."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from router.api.away import unavailable

Take = Callable[[int], None]
"""Counts so many more, or raises the Problem that says there is no room."""


class Room:
    """Room for what all requests together have in hand, in whatever it is counted.

    A request that has all of the room to itself is never refused, however large it may be.

    Args:
        most: how much there is.
        what: of what, for people, as `bytes of messages`.
    """

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self.taken = 0

    @contextmanager
    def share(self) -> Generator[Take]:
        """Yield what a request takes room with; all of it is given back at the end."""
        mine = 0

        def take(more: int) -> None:
            nonlocal mine
            if mine < self.taken and self.taken + more > self._most:
                raise unavailable(f"{self.taken} {self._what} are in hand, of at most {self._most}; try again")
            mine += more
            self.taken += more

        try:
            yield take
        finally:
            self.taken -= mine
