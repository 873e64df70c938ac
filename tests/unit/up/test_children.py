"""What decides about children; starting and ending them is tested with real processes."""

from __future__ import annotations

from router.up.children import Crashes, child_environment, status_text


def test_the_fifth_crash_within_thirty_seconds_is_too_many() -> None:
    """Four are borne."""
    crashes = Crashes()
    assert [crashes.too_many(float(t)) for t in (0, 1, 2, 3, 30)] == [False, False, False, False, True]


def test_crashes_far_apart_are_borne_for_ever() -> None:
    """One every ten seconds never gives a child up."""
    crashes = Crashes()
    assert not any(crashes.too_many(10.0 * n) for n in range(100))


def test_children_get_no_settings_from_the_environment() -> None:
    """A variable would go before the file that they are given."""
    env = child_environment({"PATH": "/bin", "PUSHWAY_REDIS_URL": "redis://x", "PUSHWAY_CONFIG": "y"})
    assert env == {"PATH": "/bin", "PYTHONUNBUFFERED": "1"}


def test_an_end_is_said_in_words() -> None:
    """As a signal or as an exit code."""
    assert status_text(-9) == "ended by signal 9"
    assert status_text(1) == "ended with exit code 1"
