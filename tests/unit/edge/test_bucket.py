"""edge.bucket: what may be taken, at once and over time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.bucket import Bucket


def test_full_at_first_and_filled_with_time() -> None:
    """What is not there is not taken, nor is part of it."""
    bucket = Bucket(a_second=2, most=4, now_s=10.0)
    assert [bucket.take(1, 10.0) for _ in range(5)] == [True] * 4 + [False]
    assert not bucket.take(2, 10.5)
    assert bucket.take(1, 10.5)
    assert not bucket.take(1, 10.5)


def test_holds_no_more_than_it_may() -> None:
    """However long nothing is taken."""
    bucket = Bucket(a_second=2, most=4, now_s=0.0)
    assert [bucket.take(1, 1e6) for _ in range(5)] == [True] * 4 + [False]


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 10)), max_size=50))
def test_never_more_than_the_rate(steps: list[tuple[float, float]]) -> None:
    """Of any span of time, what was taken is at most what came in and what it held."""
    bucket, now_s, taken = Bucket(a_second=3, most=5, now_s=0.0), 0.0, 0.0
    for wait_s, amount in steps:
        now_s += wait_s
        taken += amount if bucket.take(amount, now_s) else 0
        assert taken <= 5 + 3 * now_s + 1e-6
