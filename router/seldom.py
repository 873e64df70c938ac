"""Saying seldom what happens often: a line in the log for the first, and then one in a while for all that came since.

For what others can cause as often as they like, such as entries that break a rule. Pure but for the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

QUIET_S: Final = 10.0
"""How long nothing is said after something was: seldom enough for a log, soon enough for whoever watches one."""


class Seldom:
    """Counts what happens, and tells when it is to be said.

    What comes within `QUIET_S` of the last time is said with the next that comes later; the metrics have it at once.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said_s: float | None = None
        self._unsaid = 0

    def due(self, more: int = 1) -> int:
        """Count so many more; return how many are to be told of now, or 0 when it is too soon."""
        self._unsaid += more
        now_s = self._clock()
        if self._said_s is not None and now_s - self._said_s < QUIET_S:
            return 0
        self._said_s = now_s
        count, self._unsaid = self._unsaid, 0
        return count
