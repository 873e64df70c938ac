"""router.api.prefer: the wait that a request prefers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.api.prefer import read_wait


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        (["wait=5"], 5),
        (["WAIT=5"], 5),
        (['wait="5"'], 5),
        (["wait = 5"], 5),
        (["respond-async, wait=5"], 5),
        (["respond-async;a=b;c, wait=5;x=y"], 5),
        (['foo="a, wait=9; \\" ", wait=5'], 5),
        (["handling=lenient", "wait=5"], 5),
        (["wait=5, wait=9"], 5),
        (["wait=5", "wait=9"], 5),
        (["wait=31"], 30),
        (["wait=0"], 0),
        ([], 0),
        ([""], 0),
        (["respond-async"], 0),
        (["waiting=5"], 0),
        (["wait"], 0),
        (["wait=five"], 0),
        (["wait=-5"], 0),
        (["wait=1.5"], 0),
        (["wait=5 or so"], 5),
        (["wait=99999999999999999999999"], 0),
    ],
)
def test_wait(headers: list[str], wait_s: int) -> None:
    """The first one counts, at most as long as is allowed; what cannot be read is no preference."""
    assert read_wait(headers, 30) == wait_s


@given(st.lists(st.text(alphabet='wait=5",; \\', max_size=40), max_size=3))
def test_anything_is_read(headers: list[str]) -> None:
    """Whatever a client sends costs no error."""
    assert 0 <= read_wait(headers, 30) <= 30
