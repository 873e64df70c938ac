"""router.share: who gives and who takes, until all have as many, whoever acts when."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.share import FREE, Share, dues, share

WORKERS_MAX: Final = 8
SHARDS_MAX: Final = 24

DEAD: Final = "dead"
"""Somebody who holds shards and does not live."""


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Draw live workers, and the holder of each shard."""
    workers = [f"w{number}" for number in range(draw(st.integers(1, WORKERS_MAX)))]
    holders = draw(st.lists(st.sampled_from([*workers, FREE]), min_size=1, max_size=SHARDS_MAX))
    return workers, holders


def _counts(workers: Sequence[str], holders: Sequence[str]) -> list[int]:
    return [holders.count(worker) for worker in workers]


def _even(workers: Sequence[str], holders: Sequence[str]) -> bool:
    counts = _counts(workers, holders)
    return FREE not in holders and max(counts) - min(counts) <= 1


def _act(worker: str, part: Share, holders: list[str]) -> int:
    """Do a part as leases allow; return how many shards were given back."""
    given_back = [shard for shard in part.give if holders[shard] == worker]
    for shard in given_back:
        holders[shard] = FREE
    for shard in part.take:
        if holders[shard] == FREE:
            holders[shard] = worker
    return len(given_back)


@given(scenes(), st.randoms(use_true_random=False))
def test_all_have_as_many_in_the_end(scene: tuple[list[str], list[str]], order: random.Random) -> None:
    """In whatever order they act, two rounds are enough, and no shard changes hands that need not."""
    workers, holders = scene
    held = {worker: holders.count(worker) for worker in workers}
    too_many = sum(max(0, held[worker] - due) for worker, due in dues(held, len(holders)).items())
    given_back = 0
    for _ in range(3):
        for worker in order.sample(workers, len(workers)):
            given_back += _act(worker, share(worker, workers, holders), holders)
    assert _even(workers, holders)
    assert given_back == too_many


@given(scenes(), st.randoms(use_true_random=False), st.integers(0, 60))
def test_what_was_seen_late_is_mended(scene: tuple[list[str], list[str]], order: random.Random, stale_steps: int) -> None:
    """They act on what they saw some time ago, as others have come and gone: seen afresh, it comes out even and stays so."""
    workers, holders = scene
    plans: dict[str, Share] = {}
    for _ in range(stale_steps):
        worker = order.choice(workers)
        if worker in plans:
            _act(worker, plans.pop(worker), holders)
        else:
            others = order.sample(workers, order.randrange(len(workers)) + 1)
            plans[worker] = share(worker, sorted({worker, *others}), list(holders))
    for _ in range(3):
        for worker in order.sample(workers, len(workers)):
            _act(worker, share(worker, workers, holders), holders)
    assert _even(workers, holders)
    settled = list(holders)
    for worker in workers:
        part = share(worker, workers, holders)
        assert (part.give, part.take) == ((), ())
    assert holders == settled


@given(scenes(), st.randoms(use_true_random=False))
def test_all_are_due_all_shards(scene: tuple[list[str], list[str]], order: random.Random) -> None:
    """Dues add up, differ by one at most, and each free shard is taken by exactly one, also while the dead hold some."""
    workers, holders = scene
    holders = [DEAD if order.random() < 0.2 else holder for holder in holders]
    parts = [share(worker, workers, holders) for worker in workers]
    assert sum(part.due for part in parts) == len(holders)
    assert max(part.due for part in parts) - min(part.due for part in parts) <= 1
    taken = sorted(shard for part in parts for shard in part.take)
    assert taken == [shard for shard, holder in enumerate(holders) if holder == FREE]


@pytest.mark.parametrize(
    ("holders", "expected"),
    [
        ("a a a a", Share(give=(2, 3), take=(), due=2)),
        ("a a b b", Share(give=(), take=(), due=2)),
        ("a a a b", Share(give=(2,), take=(), due=2)),
        ("a b b", Share(give=(), take=(), due=1)),
        ("a - b b", Share(give=(), take=(1,), due=2)),
        ("- - - -", Share(give=(), take=(0, 2), due=2)),
        ("z z a b", Share(give=(), take=(), due=2)),
    ],
)
def test_of_two(holders: str, expected: Share) -> None:
    """The part of `a` beside `b`: it gives what is above its due, and takes what is free below it."""
    assert share("a", ["a", "b"], [FREE if holder == "-" else holder for holder in holders.split()]) == expected


def test_more_workers_than_shards() -> None:
    """The holder keeps it, and all others are due none."""
    parts = {worker: share(worker, ["a", "b", "c"], ["b"]) for worker in "abc"}
    assert {worker: part.due for worker, part in parts.items()} == {"a": 0, "b": 1, "c": 0}
    assert not any(part.give or part.take for part in parts.values())
