"""How long to wait before trying again: exponential backoff with equal jitter.

Half of each pause is left to chance, and half is certain, so that no try follows its failure at once. (Clients, of which
there may be very many, draw from the whole: `edge.client.Pauses`.)

Source of "equal jitter": https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

import random


class Backoff:
    """The pauses between tries, in seconds; `reset` after a success.

    Args:
        min_ms: ceiling of the first pause.
        max_ms: ceiling of every later one; the ceiling doubles until it gets here.
    """

    def __init__(self, min_ms: int, max_ms: int) -> None:
        self._min_ms = min_ms
        self._max_ms = max_ms
        self._failures = 0

    def reset(self) -> None:
        """Begin again with the shortest pause."""
        self._failures = 0

    def next_s(self) -> float:
        """Return the next pause, drawn evenly from half the ceiling up to the ceiling."""
        # 2 ** 30 is past any ceiling; without the cap a month of outage would compute with huge numbers.
        ceiling_ms = min(self._max_ms, self._min_ms * 2 ** min(self._failures, 30))
        self._failures += 1
        return random.uniform(ceiling_ms / 2, ceiling_ms) / 1000  # noqa: S311 - spreads load, guards nothing
