"""router.slot_plan: ranges that hold as many shards each, and the fewest moves to get there."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from router.keys import Keys
from router.redis_url import Address
from router.shards import SLOTS, keyslot
from router.slot_plan import Move, commands_of, even_moves, even_ranges, slot_of_shard

A, B, C = (Address("10.0.0.1", port) for port in (7000, 7001, 7002))
IDS = {A: "a" * 40, B: "b" * 40, C: "c" * 40}


@given(st.integers(1, 256).flatmap(lambda shards: st.tuples(st.just(shards), st.integers(1, min(shards, 40)))))
def test_ranges_are_whole_and_even(sizes: tuple[int, int]) -> None:
    """They cover all slots once, none is empty, each shard is in the one with its slot, and no two differ by more than one."""
    shards, primaries = sizes
    ranges = even_ranges(shards, primaries)
    assert [slot for one in ranges for slot in (one.first, one.last + 1)] == sorted(
        [0, *(one.first for one in ranges[1:]), *(one.first for one in ranges[1:]), SLOTS]
    )
    assert all(one.first <= one.last for one in ranges)
    assert all(one.first <= slot_of_shard(shard) <= one.last for one in ranges for shard in one.shards)
    assert sorted(shard for one in ranges for shard in one.shards) == list(range(shards))
    counts = [len(one.shards) for one in ranges]
    assert max(counts) - min(counts) <= 1


@given(st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=40))
def test_moves_are_few_and_enough(owners: list[Address]) -> None:
    """No shard moves twice, none moves between primaries that were even, and in the end they are."""
    moves = even_moves(owners, [A, B, C])
    after = list(owners)
    for move in moves:
        assert (owners[move.shard], move.slot) == (move.source, slot_of_shard(move.shard))
        after[move.shard] = move.target
    counts = Counter({A: 0, B: 0, C: 0})
    counts.update(after)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len({move.shard for move in moves}) == len(moves) == sum(was != now for was, now in zip(owners, after, strict=True))
    assert even_moves(after, [A, B, C]) == []


def test_slot_is_that_of_the_tag() -> None:
    """Whatever the prefix."""
    assert slot_of_shard(12) == keyslot("12")
    assert Keys("push", 12).base == "push:{12}:"


def test_commands_of_a_move() -> None:
    """One where the servers do it themselves; else keys go while the slot is open at both ends."""
    move = Move(3, 1584, A, B)
    at_once = ["redis-cli -h 10.0.0.1 -p 7000 CLUSTER MIGRATESLOTS SLOTSRANGE 1584 1584 NODE " + "b" * 40]
    assert commands_of(move, IDS, at_once=True) == at_once
    importing, migrating, keys, *ends = commands_of(move, IDS, at_once=False)
    assert importing == f"redis-cli -h 10.0.0.1 -p 7001 CLUSTER SETSLOT 1584 IMPORTING {IDS[A]}"
    assert migrating == f"redis-cli -h 10.0.0.1 -p 7000 CLUSTER SETSLOT 1584 MIGRATING {IDS[B]}"
    assert 'MIGRATE 10.0.0.1 7001 "" 0 5000 KEYS $keys' in keys
    assert [end.split()[4] for end in ends] == ["7001", "7000"]
    assert all(end.endswith(f"CLUSTER SETSLOT 1584 NODE {IDS[B]}") for end in ends)
