"""edge.term: when a client is told that its token ends."""

from __future__ import annotations

import math

import pytest

from edge.term import Term, first_term, in_frame, next_term


@pytest.mark.parametrize(
    ("valid_s", "term"),
    [(3_600.0, Term(3_570.0, 30.0)), (30.0, Term(0.0, 30.0)), (12.0, Term(0.0, 12.0)), (math.inf, Term(math.inf, 30.0))],
)
def test_the_first_token_of_a_session(valid_s: float, term: Term) -> None:
    """Is told of `notice_s` before its end, or at once where less is left."""
    assert first_term(valid_s, 30.0) == term


@pytest.mark.parametrize(("valid_s", "term"), [(3_600.0, Term(3_570.0, 30.0)), (40.0, Term(20.0, 20.0)), (2.0, Term(1.0, 1.0))])
def test_a_newer_token(valid_s: float, term: Term) -> None:
    """Is told of after half of its time at the earliest."""
    assert next_term(valid_s, 30.0) == term


@pytest.mark.parametrize(("seconds", "told"), [(3_604.9, 3_604), (30.0, 30), (1.0, 1), (0.1234, 0.123), (-2.0, 0)])
def test_times_are_rounded_down(seconds: float, told: float) -> None:
    """A client must not think that it has more time than it has."""
    assert in_frame(seconds) == told
