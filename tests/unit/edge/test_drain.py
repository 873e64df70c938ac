"""edge.drain: how fast sessions are sent away."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.drain import STEP_S, group_size


def test_few_leave_one_by_one() -> None:
    """Nothing is gained by keeping the last ones."""
    assert group_size(0, 10.0) == 1
    assert group_size(500, 10.0) == 1
    assert group_size(501, 10.0) == 2


@given(st.integers(0, 200_000), st.floats(0.001, 600.0))
def test_all_are_gone_in_time(count: int, over_s: float) -> None:
    """Whatever their number; one step is the least there is."""
    steps = -(-count // group_size(count, over_s))
    assert steps * STEP_S <= max(over_s, STEP_S) + 1e-9
