"""router.auth.breaker and router.auth.remembered: when a service is asked, and when not again."""

from __future__ import annotations

from router.auth.breaker import Breaker
from router.auth.remembered import Remembered
from router.retry import Backoff


def _breaker() -> Breaker:
    return Breaker(3, Backoff(1_000, 4_000))


def test_failures_in_a_row_open_it() -> None:
    """An answer between them begins the count anew; that it opens is told once."""
    breaker = _breaker()
    assert [breaker.failed(0.0), breaker.failed(0.0), breaker.passed()] == [False, False, False]
    assert [breaker.failed(0.0) for _ in range(4)] == [False, False, True, False]
    assert breaker.is_open
    assert not breaker.admits(0.4)


def test_one_try_at_a_time_while_it_is_open() -> None:
    """After a pause; a failed try begins a longer one, a good one closes it."""
    breaker = _breaker()
    for _ in range(3):
        breaker.failed(0.0)
    assert [breaker.admits(1.0), breaker.admits(1.0)] == [True, False]
    assert not breaker.failed(1.0)
    assert not breaker.admits(1.9)
    assert [breaker.admits(3.0), breaker.admits(3.0)] == [True, False]
    assert breaker.passed()
    assert [breaker.admits(3.0), breaker.admits(3.0), breaker.is_open] == [True, True, False]


def test_answers_are_kept_for_a_while_and_within_a_bound() -> None:
    """The oldest goes first; what is kept anew is new."""
    kept = Remembered[str](10.0, 2)
    kept.keep(b"a", "1", 0.0)
    kept.keep(b"b", "2", 1.0)
    kept.keep(b"a", "3", 2.0)
    kept.keep(b"c", "4", 3.0)
    assert [kept.find(name, 3.0) for name in (b"a", b"b", b"c")] == ["3", None, "4"]
    assert [kept.find(name, 12.5) for name in (b"a", b"c")] == [None, "4"]
    kept.keep(b"d", "5", 60.0)
    assert len(kept) == 1


def test_nothing_may_be_kept() -> None:
    """0 seconds is off."""
    kept = Remembered[str](0.0, 2)
    kept.keep(b"a", "1", 0.0)
    assert len(kept) == 0
