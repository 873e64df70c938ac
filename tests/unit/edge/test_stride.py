"""edge.stride: a page looks about as far as a page goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.stride import FIRST_US, Stride

PAGE = 1_000
YEAR_US = 365 * 86_400 * 1_000_000


def test_a_short_absence_is_one_look() -> None:
    """The goal bounds it."""
    assert Stride(PAGE).until(100, 200) == 200
    assert Stride(PAGE).until(100, 100 + FIRST_US) == 100 + FIRST_US


def test_silence_is_passed_quickly() -> None:
    """From 1970 to the year 2255, where nothing was said, in five pages."""
    stride, at, looks = Stride(PAGE), 0, 0
    while at < 285 * YEAR_US:
        until = stride.until(at, 285 * YEAR_US)
        stride.went(0, until - at, whole=True)
        at, looks = until, looks + 1
    assert looks == 5


def test_a_crowded_stretch_is_taken_in_pages() -> None:
    """Where the page ended before the stretch did, the next look goes as far as that page came."""
    stride = Stride(PAGE)
    stride.went(PAGE, 5_000, whole=False)
    assert stride.until(10_000, YEAR_US) == 15_000
    stride.went(PAGE // 4, 5_000, whole=True)
    assert stride.until(0, YEAR_US) == 20_000


@given(st.lists(st.tuples(st.integers(0, PAGE), st.integers(0, FIRST_US), st.booleans()), max_size=50))
def test_it_always_goes_on(pages: list[tuple[int, int, bool]]) -> None:
    """Whatever was found, the next page looks further than where it begins."""
    stride = Stride(PAGE)
    for count, distance, whole in pages:
        stride.went(count, distance, whole=whole)
        assert stride.until(5, YEAR_US) > 5
