"""How long to wait between tries. Pure, but for the die."""

from __future__ import annotations

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
