"""edge.client.pauses: waiting longer and longer, and never in step with others."""

from __future__ import annotations

from edge.client import Pauses
from edge.client.pauses import Tries


def test_pauses_grow_to_their_ceiling_and_start_at_nothing() -> None:
    """Full jitter: evenly from 0 to a ceiling that doubles and then stays."""
    pauses = Pauses(min_s=1, max_s=8)
    for failures, ceiling_s in [(0, 1), (1, 2), (2, 4), (3, 8), (4, 8), (10_000, 8)]:
        drawn = [pauses.after(failures) for _ in range(300)]
        assert 0 <= min(drawn) < ceiling_s / 4
        assert ceiling_s * 3 / 4 < max(drawn) <= ceiling_s


def test_tries_wait_as_long_as_the_edge_says_once() -> None:
    """After that they wait as they do by themselves, which counts that try too."""
    tries = Tries(Pauses(min_s=0, max_s=0))
    tries.told_after_s = 7.0
    assert (tries.failed(100.0), tries.next_at_s) == (7.0, 107.0)
    assert (tries.failed(107.0), tries.next_at_s) == (0.0, 107.0)


def test_pauses_begin_anew_after_a_good_session() -> None:
    """However long they had become."""
    tries = Tries(Pauses(min_s=1, max_s=1_000))
    for _ in range(10):
        tries.failed(0.0)
    assert max(tries.failed(0.0) for _ in range(50)) > 1
    tries.went_well()
    assert tries.failed(0.0) <= 1
