"""After a loss: the sessions that may have missed something are brought to their heads.

A loss is a subscription that broke or a route that lapsed. The heads come in with the routes, which are written anew then in
bulk, or where Redis cannot tell them from MongoDB; only a session whose last seq is below the head has anything
fetched for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from edge.heads import Tell
from edge.position import Position
from router.metrics import BEHIND
from router.targets import USER_PREFIX


class Resync:
    """Compares heads with positions.

    Args:
        positions: user → positions of that user's sessions here.
        ask_head: has MongoDB asked for the head of a target, which is not below a seq.
        catch_up: is told of each position that has fallen behind.
    """

    def __init__(
        self,
        positions: Callable[[str], Sequence[Position]],
        ask_head: Callable[[str, Tell, int], None],
        catch_up: Callable[[Position], None],
    ) -> None:
        self._positions = positions
        self._ask_head = ask_head
        self._catch_up = catch_up

    def check(self, user: str, head: int | None) -> None:
        """Look at one user's sessions; `head` is None where it is not known yet, and then MongoDB is asked."""
        positions = self._positions(user)
        if head is None:
            if positions:
                # A position that has started has nothing to fetch below where it stands.
                above = min(position.at if position.started else 0 for position in positions)
                self._ask_head(USER_PREFIX + user, partial(self.check, user), above)
            return
        compare(positions, head, self._catch_up)


def compare(positions: Iterable[Position], head: int, catch_up: Callable[[Position], None]) -> None:
    """Have those positions read on that stand below the head of their target."""
    for position in positions:
        if position.started and position.at >= head:
            continue
        if position.goal is not None or not position.started:
            position.raise_goal(head)
            continue
        BEHIND.inc()
        position.fall_behind(head)
        catch_up(position)
