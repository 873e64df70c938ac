"""edge.company: calls that carry a rush."""

from __future__ import annotations

import pytest

from edge.company import gathered

pytestmark = pytest.mark.anyio


class Rush:
    """So many have come at each look."""

    def __init__(self, *counts: int) -> None:
        self._counts = counts
        self.looks = 0

    def count(self) -> int:
        """Tell how many; the last count stays."""
        self.looks += 1
        return self._counts[min(self.looks, len(self._counts)) - 1]


@pytest.mark.parametrize(
    ("counts", "looks"),
    [((1,), 2), ((0,), 2), ((1, 3, 6, 6), 4), ((5, 2), 2), ((1, 7, 10, 11), 3), ((12,), 1)],
)
async def test_a_call_waits_while_somebody_comes(counts: tuple[int, ...], looks: int) -> None:
    """One turn that brings nobody ends the wait, and so does a call that is full."""
    rush = Rush(*counts)
    await gathered(rush.count, 10)
    assert rush.looks == looks


async def test_a_rush_that_does_not_end_is_served() -> None:
    """After some turns."""
    rush = Rush(*range(1_000))
    await gathered(rush.count, 1_000)
    assert rush.looks < 100
