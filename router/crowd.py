"""A few of what is dear at each pass of the event loop, and the rest at the next ones. Pure: the loop is the caller's.

That keeps a crowd from holding up all others. A handshake costs an edge what a hundred messages do, as does a read full of
frames; and the event loop brings all that is ready at once: five hundred requests that come together would be answered in one
go of a quarter of a second, and no message meanwhile. In sum nothing takes longer, for the next pass comes at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

A_PASS: Final = 8
"""How many at each pass: some milliseconds."""


class Turns:
    """Who waits for a turn. What is bounded are those who may wait: each waits for one at a time.

    Args:
        call_soon: has a function called at the next pass of the event loop.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._waiting: deque[Callable[[], None]] = deque()
        self._left = A_PASS
        self._called = False

    def take(self, act: Callable[[], None]) -> bool:
        """Act at once and return True, or have it wait for a later pass."""
        self._call()
        if self._waiting or not self._left:
            self._waiting.append(act)
            return False
        self._left -= 1
        act()
        return True

    def _call(self) -> None:
        if not self._called:
            self._called = True
            self._call_soon(self._pass)

    def _pass(self) -> None:
        self._called = False
        self._left = A_PASS
        while self._waiting and self._left:
            self._left -= 1
            self._waiting.popleft()()
        if self._waiting:
            self._call()
