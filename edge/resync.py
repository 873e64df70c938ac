"""After a loss: which sessions may have missed something.

A loss is a subscription that broke or a route that lapsed. The heads come in with the routes, which are written anew then
in bulk; a session whose last seq is below the head is behind. What it lacks is to be fetched from MongoDB: here. Until
then it is counted, and the client's next cursor is what brings it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from edge.position import Position
from router.metrics import BEHIND


class Resync:
    """Compares heads with positions.

    Args:
        positions: user → positions of that user's sessions here.
    """

    def __init__(self, positions: Callable[[str], Iterable[Position]]) -> None:
        self._positions = positions

    def check(self, user: str, head: int | None) -> None:
        """Look at one user's sessions; `head` is None where the target has no counter."""
        behind = [position for position in self._positions(user) if position.started and position.last < (head or 0)]
        BEHIND.inc(len(behind))
