"""How long to wait between tries to connect, and when the next one is. Pure, but for the die."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final

STEADY_S: Final = 10.0
"""A session that lived this long was a good one: the pauses begin anew with the shortest."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long to wait between tries: from nothing up to a ceiling that doubles with each failure (full jitter).

    The defaults are those of Centrifugo's clients.
    """

    min_s: float = 0.5
    max_s: float = 20.0

    def after(self, failures: int) -> float:
        """Return a pause in seconds after so many failures in a row, the first being 0."""
        # 2 ** 20 is past any ceiling; without the cap a night offline would compute with huge numbers.
        ceiling_s = min(self.max_s, self.min_s * 2 ** min(failures, 20))
        return random.uniform(0, ceiling_s)  # noqa: S311 - spreads load, guards nothing


class Tries:
    """Tries to connect, one after another.

    Args:
        pauses: how long to wait between them.

    Attributes:
        told_after_s: how long the edge would have the client wait, the next time; None where it says nothing.
        next_at_s: when the next try is, by `time.monotonic()`.
    """

    def __init__(self, pauses: Pauses) -> None:
        self._pauses = pauses
        self._failures = 0
        self.told_after_s: float | None = None
        self.next_at_s = -math.inf

    def failed(self, now_s: float) -> float:
        """A try came to nothing, or a connection has ended; return the pause before the next one."""
        told_s, self.told_after_s = self.told_after_s, None
        pause_s = self._pauses.after(self._failures) if told_s is None else told_s
        self._failures += 1
        self.next_at_s = now_s + pause_s
        return pause_s

    def went_well(self) -> None:
        """A session lived long enough: what failed before it counts no more."""
        self._failures = 0
