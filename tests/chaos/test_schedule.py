"""The schedule is a pure function of its seed, and fair."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.faults import FAILOVER, KINDS
from tests.chaos.schedule import AT_ONCE_MAX, REST_S, Planned, choose_kinds, make_schedule

EVERYTHING = tuple(KINDS)
A_FEW = st.lists(st.sampled_from(EVERYTHING), min_size=1, unique=True)
SEEDS = st.integers(0, 10**6)


@given(SEEDS, A_FEW)
def test_can_be_had_again(seed: int, kinds: list[str]) -> None:
    """Seed, minutes and kinds decide everything; the order in which kinds are named decides nothing."""
    assert make_schedule(seed, 2, kinds) == make_schedule(seed, 2, kinds[::-1])


def test_seeds_differ() -> None:
    """Another seed is another run."""
    assert make_schedule(1, 2, EVERYTHING) != make_schedule(2, 2, EVERYTHING)


@given(SEEDS, A_FEW)
def test_not_too_much_at_once(seed: int, kinds: list[str]) -> None:
    """Faults begin in order, are over in time, overlap two at most, and leave a victim in peace for a while."""
    schedule = make_schedule(seed, 2, kinds)
    assert [planned.number for planned in schedule] == list(range(1, len(schedule) + 1))
    assert sorted(planned.at_s for planned in schedule) == [planned.at_s for planned in schedule]
    for at, planned in enumerate(schedule):
        assert planned.until_s <= 120
        before = schedule[:at]
        assert sum(_lasts(earlier, planned) for earlier in before) < AT_ONCE_MAX
        same = [earlier.until_s for earlier in before if earlier.fault.victim == planned.fault.victim]
        assert not same or planned.at_s >= max(same) + REST_S - 0.01


def _lasts(earlier: Planned, later: Planned) -> bool:
    return earlier.until_s > later.at_s + 0.01


@given(SEEDS)
def test_each_kind_has_its_turn(seed: int) -> None:
    """No kind comes twice more often than another."""
    counted = Counter(planned.kind for planned in make_schedule(seed, 10, EVERYTHING))
    assert set(counted) == set(EVERYTHING)
    assert max(counted.values()) - min(counted.values()) <= 1


def test_kinds_by_name() -> None:
    """Names, patterns, and what is left out; nothing named means all."""
    assert choose_kinds("") == EVERYTHING
    assert choose_kinds("failover, kill-edge") == ("kill-edge", "failover")
    assert all(kind.startswith("kill-") for kind in choose_kinds("kill-*"))
    assert set(choose_kinds("-failover")) == set(EVERYTHING) - {FAILOVER}
    with pytest.raises(ValueError, match="there is no fault 'quake'"):
        choose_kinds("quake")
