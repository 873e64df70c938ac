"""Asking the work on a shard to end where nothing is in hand, so that another worker can go on at once.

To cut work off anywhere loses nothing either, but what was in hand is then done again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from anyio import CancelScope


class Handover:
    """Whether a shard is to be given back: told by who shares shards, asked by the work between two turns."""

    def __init__(self) -> None:
        self.asked = False
        self._idle: CancelScope | None = None

    def begin(self) -> None:
        """Note that the shard has been taken: nobody wants it back yet."""
        self.asked = False

    def ask(self) -> None:
        """Ask the work to end with its present turn, which is now where it waits."""
        self.asked = True
        if self._idle is not None:
            self._idle.cancel()

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Wait in this block with nothing in hand: it is left when the shard is asked for."""
        scope = self._idle = CancelScope()
        try:
            with scope:
                if self.asked:
                    scope.cancel()
                yield
        finally:
            self._idle = None
