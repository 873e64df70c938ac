"""router.grants: which topics a pattern covers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.grants import covers


@pytest.mark.parametrize(
    ("pattern", "topic", "covered"),
    [
        ("news", "news", True),
        ("news", "news2", False),
        ("team.*", "team.red", True),
        ("team.*", "team.", True),
        ("team.*", "team", False),
        ("*", "anything:at/all", True),
        ("a*b*c", "a-b-c", True),
        ("a*b*c", "a-c", False),
        ("*ab*ab", "xabab", True),
        ("a*a", "a", False),
        ("[x]*", "[x]y", True),
        ("a.c", "abc", False),
    ],
)
def test_pattern(pattern: str, topic: str, covered: bool) -> None:
    """An asterisk is any characters, everything else is itself."""
    assert covers([pattern], topic) is covered


def test_any_of_them_will_do() -> None:
    """And none covers nothing."""
    assert covers(["sport", "ne*"], "news")
    assert not covers([], "news")


@given(st.lists(st.text("ab*", max_size=6), max_size=3), st.text("ab*", max_size=10))
def test_as_a_plain_regular_expression(patterns: list[str], topic: str) -> None:
    """Taking as little as possible finds whatever taking anything would."""
    plain = [re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL) for pattern in patterns]
    assert covers(patterns, topic) == any(one.fullmatch(topic) for one in plain)


def test_a_pattern_cannot_keep_an_edge_busy() -> None:
    """The worst of them is through at once: without that bound this would take longer than the universe is old."""
    assert not covers(["a*" * 60 + "b"], "a" * 128)
