"""After a loss: the sessions that may have missed something are brought to their heads.

A loss is a subscription that broke or a route that lapsed. The heads come in with the routes, which are written anew then
in bulk; only a session whose last seq is below the head has anything fetched for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from edge.position import Position
from router.metrics import BEHIND


class Resync:
    """Compares heads with positions.

    Args:
        positions: user → positions of that user's sessions here.
        catch_up: is told of each that has fallen behind.
    """

    def __init__(self, positions: Callable[[str], Iterable[Position]], catch_up: Callable[[Position], None]) -> None:
        self._positions = positions
        self._catch_up = catch_up

    def check(self, user: str, head: int | None) -> None:
        """Look at one user's sessions; `head` is None where Redis has no counter, and then MongoDB's newest counts."""
        for position in self._positions(user):
            if position.started and head is not None and position.at >= head:
                continue
            if position.goal is not None or not position.started:
                position.raise_goal(head)
                continue
            BEHIND.inc()
            position.fall_behind(head)
            self._catch_up(position)
