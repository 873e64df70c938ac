"""router.seldom: what happens often is said seldom."""

from __future__ import annotations

from router.seldom import QUIET_S, Seldom


def test_the_first_at_once_and_then_one_in_a_while() -> None:
    """Whatever comes too soon is counted, and said with the next that is not."""
    now = 0.0
    seldom = Seldom(lambda: now)
    assert seldom.due() == 1
    assert [seldom.due() for _ in range(5)] == [0] * 5
    now = QUIET_S - 0.01
    assert seldom.due(3) == 0
    now = QUIET_S
    assert seldom.due() == 9
    assert seldom.due() == 0
    now = 3 * QUIET_S
    assert seldom.due(2) == 3
