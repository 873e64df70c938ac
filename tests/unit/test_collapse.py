"""Which messages of a page a newer one of their key makes superfluous."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from router.collapse import collapsed, latest_ends
from router.stored import Keyed, Page

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)

KEYED = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4)), max_size=12)


def _keyed(key: str, ends_h: int) -> Keyed:
    return Keyed(key, NOON + timedelta(hours=ends_h))


@given(KEYED, st.integers(0, 12))
def test_whatever_is_left_out_is_outlived(said: list[tuple[str, int]], count: int) -> None:
    """By a newer one of its key, in the page or behind it; and what nobody outlives is there."""
    keyed = {seq: _keyed(*one) for seq, one in enumerate(said, 1)}
    here = {seq: one for seq, one in keyed.items() if seq <= count}
    behind = [one for seq, one in keyed.items() if seq > count]
    page = Page([(seq, b"") for seq in here], count, whole=False, collapse=here)
    kept = [seq for seq, _ in collapsed(page, latest_ends(behind)).messages]
    for seq, one in here.items():
        outlived = any(other.key == one.key and other.ends >= one.ends for later, other in keyed.items() if later > seq)
        assert (seq in kept) is not outlived


def test_newer_one_that_ends_first_takes_nobodys_place() -> None:
    """Whoever reads slowly might come to it when it has ended, and would have neither."""
    page = Page([(1, b"one")], 1, whole=False, collapse={1: _keyed("price", 5)})
    assert collapsed(page, {"price": NOON}).messages == page.messages
    assert collapsed(page, {"price": NOON + timedelta(hours=5)}).messages == []
