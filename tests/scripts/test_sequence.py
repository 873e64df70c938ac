"""lua/sequence.lua through Intake: each message's place in its target's order."""

from __future__ import annotations

import pytest

from router.collect.intake import Broken, Cold, Given, Place
from tests.scripts.shard import HELD, Shard, item, now_ms

pytestmark = pytest.mark.anyio

ABOVE_THE_CLOCK = 9_007_199_254_000_000
"""16 digits, in the year 2255: `tostring` of Lua would write it as 9.007199254e+15."""


async def _places(shard: Shard, *targets: str, floor: int | None = 0, first: int = 0) -> list[Place]:
    items = [item(target, f"m{first + number}") for number, target in enumerate(targets)]
    floors = {} if floor is None else dict.fromkeys(targets, floor)
    places = await shard.place(HELD, items, floors)
    assert isinstance(places, list)
    assert all(isinstance(place, Place) for place in places)
    return [place for place in places if isinstance(place, Place)]


async def test_target_without_head_is_cold_and_gets_nothing(shard: Shard) -> None:
    """Without head and floor the script names the target and changes nothing, for the others either."""
    await shard.count("user:warm", given=7, handed=5)
    items = [item("user:warm", "1"), item("user:cold", "2"), item("user:warm", "3"), item("user:frost", "4")]
    assert await shard.place(HELD, items, {}) == Cold(("user:cold", "user:frost"))
    assert await shard.place(HELD, items, {"user:frost": 9}) == Cold(("user:cold",))
    assert await shard.counters("user:warm") == {"given": 7, "handed": 5}
    assert not await shard.redis.exists(shard.keys.pending(), shard.keys.seq("user:cold"), shard.keys.seq("user:frost"))


async def test_first_seq_is_redis_time_in_microseconds(shard: Shard) -> None:
    """A new target begins with prev 0 and the time, so a counter that was lost is passed at once."""
    before_us = now_ms() * 1000
    (place,) = await _places(shard, "user:a")
    assert place.prev == 0
    assert before_us <= place.seq <= (now_ms() + 1) * 1000


async def test_prev_chains_messages_of_a_target(shard: Shard) -> None:
    """Each message's prev is the seq before it of the same target, over one batch and the next."""
    a1, b1, a2, a3 = await _places(shard, "user:a", "user:b", "user:a", "user:a", floor=7)
    assert (a1.prev, a2.prev, a3.prev, b1.prev) == (7, a1.seq, a2.seq, 7)
    assert a1.seq < a2.seq < a3.seq


async def test_prev_begins_at_what_was_handed_on(shard: Shard) -> None:
    """A seq that was given and never handed on is no prev, and is never given again."""
    given = now_ms() * 1000 + 60_000_000
    await shard.count("user:a", given=given, handed=50)
    first, second = await _places(shard, "user:a", "user:a", floor=None)
    assert (first.prev, first.seq) == (50, given + 1)
    assert (second.prev, second.seq) == (given + 1, given + 2)


async def test_floor_above_the_head_wins(shard: Shard) -> None:
    """What MongoDB has is not given again, though the counters know less."""
    await shard.count("user:a", given=60, handed=50)
    (place,) = await _places(shard, "user:a", floor=ABOVE_THE_CLOCK)
    assert (place.prev, place.seq) == (ABOVE_THE_CLOCK, ABOVE_THE_CLOCK + 1)


async def test_numbers_of_16_digits_are_exact_everywhere(shard: Shard) -> None:
    """Reply, counters and pending carry every digit."""
    places = await _places(shard, "user:a", "user:a", floor=ABOVE_THE_CLOCK)
    assert [place.seq for place in places] == [ABOVE_THE_CLOCK + 1, ABOVE_THE_CLOCK + 2]
    assert await shard.counters("user:a") == {"handed": ABOVE_THE_CLOCK}
    assert await shard.redis.hget(shard.keys.pending(), "user:a m1") == str(ABOVE_THE_CLOCK + 2).encode()


async def test_retry_gives_the_same_places(shard: Shard) -> None:
    """A batch that was cut off gets what it had, with and without floors, and so do parts of it."""
    places = await _places(shard, "user:a", "user:b", "user:a")
    assert await _places(shard, "user:a", "user:b", "user:a", floor=None) == places
    assert await _places(shard, "user:a", "user:b") == places[:2]
    assert await _places(shard, "user:a", "user:b", "user:a") == places


async def test_retry_with_more_behind_it_keeps_its_places(shard: Shard) -> None:
    """What comes behind a remembered batch is placed above it."""
    first = await _places(shard, "user:a", "user:a")
    longer = await _places(shard, "user:a", "user:a", "user:a")
    assert longer[:2] == first
    assert longer[2].prev == first[1].seq < longer[2].seq


async def test_remembered_seq_that_somebody_else_took_is_drawn_again(shard: Shard) -> None:
    """A floor at or above a remembered seq means that MongoDB has it under another id."""
    (taken,) = await _places(shard, "user:a")
    (again,) = await _places(shard, "user:a", floor=taken.seq)
    assert again.prev == taken.seq < again.seq
    assert await _places(shard, "user:a", floor=taken.seq) == [again]


async def test_seqs_only_ever_rise(shard: Shard) -> None:
    """Over many batches, each appended or forgotten, no seq is given twice."""
    seen = 0
    for number in range(20):
        (place,) = await _places(shard, "user:a", first=number, floor=0 if number == 0 else None)
        assert place.prev <= seen < place.seq
        seen = place.seq
        await shard.redis.delete(shard.keys.pending())


async def test_more_items_than_one_command_takes(shard: Shard) -> None:
    """9,000 items pass unpack's limit, and each is remembered."""
    targets = [f"user:{number % 5}" for number in range(9_000)]
    places = await _places(shard, *targets)
    assert await shard.redis.hlen(shard.keys.pending()) == 9_000
    assert len({(target, place.seq) for target, place in zip(targets, places, strict=True)}) == 9_000
    assert await _places(shard, *targets) == places


async def test_more_targets_than_one_command_takes(shard: Shard) -> None:
    """4,500 targets, one item each, are looked up and given."""
    targets = [f"user:{number}" for number in range(4_500)]
    places = await _places(shard, *targets)
    assert all(place.prev == 0 for place in places)


async def test_broken_counter_stops_its_target_alone(shard: Shard) -> None:
    """A counter of another type is reported in words; neighbours get their places and the key stays as it is."""
    await shard.redis.set(shard.keys.seq("user:broken"), "by hand")
    items = [item("user:a", "1"), item("user:broken", "2"), item("user:a", "3")]
    first, broken, third = await shard.place(HELD, items, {"user:a": 0})  # type: ignore[misc]
    assert isinstance(first, Place)
    assert isinstance(third, Place)
    assert third.prev == first.seq
    assert isinstance(broken, Broken)
    assert broken.reason.startswith("WRONGTYPE")
    assert await shard.redis.get(shard.keys.seq("user:broken")) == b"by hand"


async def test_counters_that_begin_here_expire_when_idle(shard: Shard) -> None:
    """A target's first message begins them."""
    shard = shard.with_settings(seq_idle_s=100.0)
    await _places(shard, "user:a")
    assert 90_000 < await shard.redis.pttl(shard.keys.seq("user:a")) <= 100_000


async def test_tells_whether_the_batch_is_alone_in_pending(shard: Shard) -> None:
    """Whoever was remembered before is to be remembered after it; a retry of the same batch counts as that."""
    items = [item("user:a", "1"), item("user:b", "2")]
    floors = {"user:a": 0, "user:b": 0}
    first, again = [await shard.intake.sequence(HELD, shard.era, items, floors) for _ in range(2)]
    assert isinstance(first, Given)
    assert isinstance(again, Given)
    assert (first.alone, again.alone) == (True, False)
    assert first.places == again.places
