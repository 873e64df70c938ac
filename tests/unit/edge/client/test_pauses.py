"""edge.client.pauses: waiting longer and longer, and never in step with others."""

from __future__ import annotations

from edge.client import Pauses


def test_pauses_grow_to_their_ceiling_and_start_at_nothing() -> None:
    """Full jitter: evenly from 0 to a ceiling that doubles and then stays."""
    pauses = Pauses(min_s=1, max_s=8)
    for failures, ceiling_s in [(0, 1), (1, 2), (2, 4), (3, 8), (4, 8), (10_000, 8)]:
        drawn = [pauses.after(failures) for _ in range(300)]
        assert 0 <= min(drawn) < ceiling_s / 4
        assert ceiling_s * 3 / 4 < max(drawn) <= ceiling_s
