"""edge.pace: how much a client may say."""

from __future__ import annotations

import pytest

from edge.pace import NOTHING, WINDOW_S, Taken, counted, is_too_fast


def test_what_came_is_counted_by_windows() -> None:
    """Within one it adds up; the next begins with nothing."""
    taken = counted(counted(NOTHING, 20.0, 1, 100), 29.9, 2, 50)
    assert taken == Taken(2, 3, 150)
    assert taken.in_words() == "3 frames and 150 bytes in 10 seconds"
    assert counted(taken, 30.0, 1, 0) == Taken(3, 1, 0)


@pytest.mark.parametrize(
    ("frames", "size", "limits", "too_fast"),
    [
        (5 * WINDOW_S, 7 * WINDOW_S, (5, 7), False),
        (5 * WINDOW_S + 1, 0, (5, 7), True),
        (0, 7 * WINDOW_S + 1, (5, 7), True),
        (10**9, 10**12, (0, 0), False),
    ],
)
def test_each_limit_counts_where_there_is_one(frames: int, size: int, limits: tuple[int, int], too_fast: bool) -> None:
    """All that is allowed in ten seconds may come at once."""
    assert is_too_fast(Taken(1, frames, size), *limits) is too_fast
