"""router.retry: pauses that grow, scatter and begin again."""

from __future__ import annotations

from router.retry import Backoff


def test_ceiling_doubles_up_to_the_longest_pause() -> None:
    """Each pause lies between half its ceiling and its ceiling."""
    backoff = Backoff(50, 2_000)
    for ceiling_ms in (50, 100, 200, 400, 800, 1_600, 2_000, 2_000):
        assert ceiling_ms / 2000 <= backoff.next_s() <= ceiling_ms / 1000


def test_reset_begins_again() -> None:
    """After a success the next pause is the shortest."""
    backoff = Backoff(50, 2_000)
    for _ in range(10):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 0.05


def test_pauses_scatter() -> None:
    """Many that failed together do not come back together."""
    assert len({Backoff(50, 2_000).next_s() for _ in range(100)}) > 90


def test_months_of_failures_are_no_error() -> None:
    """The exponent has an end."""
    backoff = Backoff(1, 2_000)
    assert max(backoff.next_s() for _ in range(100_000)) <= 2
