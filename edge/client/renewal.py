"""When a connection's token is renewed: from the edge's notice on, again and again while there is time. Pure.

(nothing to do) ── expiring ──▶ due ── asked, `sent` ──▶ (nothing to do)
                                 ▲  └─ failed ─▶ later ─┐
                                 └──────────────────────┘ if it comes before the token ends
"""

from __future__ import annotations

import math

from edge.client.pauses import Pauses


class Renewal:
    """The renewal of one connection's token after another.

    Args:
        pauses: how long to wait between tries.

    Attributes:
        due_s: when the application is to be asked for a newer token, by `time.monotonic()`; infinite where there is no need.
    """

    def __init__(self, pauses: Pauses) -> None:
        self._pauses = pauses
        self._failures = 0
        self._expires_at_s = -math.inf
        self.due_s = math.inf

    def expiring(self, now_s: float, in_s: float) -> None:
        """The edge says that the token ends in `in_s`."""
        self._failures, self.due_s, self._expires_at_s = 0, now_s, now_s + in_s

    def left_s(self, now_s: float) -> float:
        """Return how long the present token still holds."""
        return max(0.0, self._expires_at_s - now_s)

    def sent(self) -> None:
        """A newer one is on its way to the edge."""
        self.due_s = math.inf

    def failed(self, now_s: float) -> float:
        """There is none, or it cannot be checked: try again if there is time; return in how long."""
        pause_s, left_s = self._pauses.after(self._failures), self.left_s(now_s)
        self._failures += 1
        self.due_s = now_s + pause_s if pause_s < left_s else math.inf
        return min(pause_s, left_s)

    def parted(self) -> None:
        """The connection is over; the next one begins with another token."""
        self._expires_at_s, self.due_s = -math.inf, math.inf
