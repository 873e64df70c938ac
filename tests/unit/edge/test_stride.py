"""edge.stride: a page looks about as far as a page goes, and takes no longer than others can wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.stride import FIRST_US, PAGE_MAX, PAGE_MIN, PAGE_S, Stride

PAGE = Stride().most
EASY_S = PAGE_S / 2  # neither quick nor slow
YEAR_US = 365 * 86_400 * 1_000_000


def test_a_short_absence_is_one_look() -> None:
    """The goal bounds it."""
    assert Stride().until(100, 200) == 200
    assert Stride().until(100, 100 + FIRST_US) == 100 + FIRST_US


def test_silence_is_passed_quickly() -> None:
    """From 1970 to the year 2255, where nothing was said, in five pages."""
    stride, at, looks = Stride(), 0, 0
    while at < 285 * YEAR_US:
        until = stride.until(at, 285 * YEAR_US)
        stride.went(0, until - at, EASY_S, whole=True)
        at, looks = until, looks + 1
    assert looks == 5


def test_a_crowded_stretch_is_taken_in_pages() -> None:
    """Where the page ended before the stretch did, the next look goes as far as that page came."""
    stride = Stride()
    stride.went(PAGE, 5_000, EASY_S, whole=False)
    assert stride.until(10_000, YEAR_US) == 15_000
    stride.went(PAGE // 4, 5_000, EASY_S, whole=True)
    assert stride.until(0, YEAR_US) == 20_000


@given(st.lists(st.tuples(st.integers(0, PAGE), st.integers(0, FIRST_US), st.floats(0, 60), st.booleans()), max_size=50))
def test_it_always_goes_on(pages: list[tuple[int, int, float, bool]]) -> None:
    """Whatever was found, the next page looks further than where it begins."""
    stride = Stride()
    for count, distance, took_s, whole in pages:
        stride.went(count, distance, took_s, whole=whole)
        assert stride.until(5, YEAR_US) > 5
        assert PAGE_MIN <= stride.most <= PAGE_MAX


def test_a_quick_store_gives_whole_pages_at_once() -> None:
    """They grow, and nobody rests."""
    stride = Stride()
    for _ in range(10):
        stride.went(stride.most, 5_000, PAGE_S / 10, whole=False)
    assert (stride.most, stride.rest_s) == (PAGE_MAX, 0)


def test_a_slow_store_is_left_to_others_half_of_the_time() -> None:
    """Pages shrink, and the replay rests for as long as the last one took."""
    stride = Stride()
    for _ in range(10):
        stride.went(stride.most, 5_000, 3 * PAGE_S, whole=False)
    assert (stride.most, stride.rest_s) == (PAGE_MIN, 3 * PAGE_S)


def test_one_slow_page_does_not_stop_a_replay() -> None:
    """However long it took, the next one comes soon."""
    stride = Stride()
    stride.went(stride.most, 5_000, 60.0, whole=False)
    assert stride.rest_s <= 0.1
