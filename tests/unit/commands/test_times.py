"""router.commands.times: times as people type them."""

from __future__ import annotations

import pytest

from router.commands.times import read_time
from router.errors import RuleBroken


@pytest.mark.parametrize(
    ("text", "unix_ms"),
    [
        ("1795360470695", 1_795_360_470_695),
        ("2026-11-22T15:14:30.695Z", 1_795_360_470_695),
        ("2026-11-22T16:14:30.695+01:00", 1_795_360_470_695),
        ("2026-11-22 15:14:30+00:00", 1_795_360_470_000),
    ],
)
def test_a_time(text: str, unix_ms: int) -> None:
    """As a number of Unix ms, or with a date."""
    assert read_time(text, "--at") == unix_ms


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-11-22T15:14:30", "-5", "1e9", "٣"])
def test_what_is_no_time(text: str) -> None:
    """One without an offset could be meant in any zone."""
    with pytest.raises(RuleBroken, match=r"^--at: "):
        read_time(text, "--at")
