"""lua/append.lua through Intake: a finished batch moves on in one step."""

from __future__ import annotations

import pytest

from router.lines import build_many, build_place
from router.stored import make_body
from router.streams import NEW
from tests.scripts.shard import HELD, Shard, line

pytestmark = pytest.mark.anyio

BIG = 9_007_199_254_000_001


async def _taken(shard: Shard, count: int) -> list[str]:
    await shard.appended(count)
    return [entry.id for entry in await shard.with_settings(batch_max=100_000).intake.take(HELD, NEW)]


async def test_batch_moves_on_whole(shard: Shard) -> None:
    """Lines are in `out` in order, heads set, pending forgotten, entries gone; the length comes back."""
    ids = await _taken(shard, 2)
    await shard.redis.hset(shard.keys.pending(), mapping={"user:a 1": "5", "user:b 1": "6", "user:c 1": "7"})
    lines = [line("user:a", 5), line("user:b", 6), line("user:a", BIG)]
    length = await shard.intake.append(
        HELD,
        lines=lines,
        heads={"user:a": BIG, "user:b": 6},
        entry_ids=ids,
        item_ids=["user:a 1", "user:b 1"],
        trim=True,
    )
    assert length == 1
    assert await shard.texts_out() == ["\n".join(lines)]
    assert (await shard.counters("user:a"), await shard.counters("user:b")) == ({"handed": BIG}, {"handed": 6})
    assert await shard.redis.hgetall(shard.keys.pending()) == {b"user:c 1": b"7"}
    assert await shard.ids(shard.keys.intake()) == []


async def test_head_never_goes_back(shard: Shard) -> None:
    """A repeated id goes out with the seq it was stored with, below the head."""
    await shard.count("user:a", given=BIG, handed=BIG - 1)
    await shard.intake.append(HELD, lines=[line("user:a", 5)], heads={"user:a": 5}, entry_ids=[], item_ids=[], trim=True)
    assert await shard.counters("user:a") == {"given": BIG, "handed": BIG - 1}


async def test_head_that_is_known_moves_on_beside_what_was_given(shard: Shard) -> None:
    """Where the caller knows the head from sequence.lua, its new one is noted as given and handed; one that stays is left."""
    await shard.count("user:a", given=4, handed=4)
    await shard.count("user:b", given=9, handed=7)
    heads = {"user:a": BIG, "user:b": 7}
    before = {"user:a": 4, "user:b": 7}
    await shard.intake.append(HELD, lines=[], heads=heads, entry_ids=[], item_ids=[], trim=True, before=before)
    assert await shard.counters("user:a") == {"given": BIG, "handed": BIG}
    assert await shard.counters("user:b") == {"given": 9, "handed": 7}


async def test_known_head_that_redis_has_lost_since_is_made_whole(shard: Shard) -> None:
    """The hash that is made for it then is of the present era, and expires."""
    heads, before = {"user:a": BIG}, {"user:a": BIG - 1}
    await shard.intake.append(HELD, lines=[], heads=heads, entry_ids=[], item_ids=[], trim=True, before=before)
    assert await shard.counters("user:a") == {"given": BIG, "handed": BIG}
    assert await shard.redis.pttl(shard.keys.seq("user:a")) > 0


async def test_idle_time_begins_anew_once_a_quarter_of_it(shard: Shard) -> None:
    """The first batch of a target in each quarter renews it; those behind it in the same quarter leave it."""
    shard = shard.with_settings(seq_idle_s=100.0)
    await shard.count("user:a", given=1, handed=1)
    quarter_us = 25_000_000
    for before, head, renewed in ((1, 2, False), (2, quarter_us, True), (quarter_us, 2 * quarter_us - 1, False)):
        await shard.redis.pexpire(shard.keys.seq("user:a"), 5_000)
        at = {"user:a": before}
        await shard.intake.append(HELD, lines=[], heads={"user:a": head}, entry_ids=[], item_ids=[], trim=True, before=at)
        assert (await shard.redis.pttl(shard.keys.seq("user:a")) > 90_000) is renewed


async def test_all_of_pending_is_forgotten(shard: Shard) -> None:
    """Whoever knows that it is all of one batch need not name the fields."""
    await shard.redis.hset(shard.keys.pending(), mapping={"user:a 1": "5", "user:b 1": "6"})
    await shard.intake.append(HELD, lines=[], heads={}, entry_ids=[], item_ids=None, trim=True)
    assert not await shard.redis.exists(shard.keys.pending())


async def test_a_seq_hash_that_is_made_here_expires_when_idle(shard: Shard) -> None:
    """A recovery makes them of targets that Redis has forgotten. One that stands there keeps its time."""
    await shard.count("user:a", given=5, handed=5)
    await shard.redis.pexpire(shard.keys.seq("user:a"), 1_000)
    heads = {"user:a": 6, "user:b": 6}
    await shard.intake.append(HELD, lines=[], heads=heads, entry_ids=[], item_ids=[], trim=False)
    idle_ms = shard.settings.seq_idle_s * 1_000
    assert 0 < await shard.redis.pttl(shard.keys.seq("user:a")) <= 1_000
    assert idle_ms - 60_000 < await shard.redis.pttl(shard.keys.seq("user:b")) <= idle_ms


async def test_trim_takes_what_is_named_and_before_and_nothing_behind(shard: Shard) -> None:
    """With trim on, what was not named before the last id is done with; what stands behind it stays."""
    _, second, third, fourth = await _taken(shard, 4)
    await shard.intake.append(HELD, lines=[], heads={}, entry_ids=[second, third], item_ids=[], trim=True)
    assert await shard.ids(shard.keys.intake()) == [fourth]


async def test_nothing_is_trimmed_that_was_not_taken(shard: Shard) -> None:
    """Redis lost the end of the stream and counts on from lower ids: what came since stays, though its id is below."""
    await shard.redis.xadd(shard.keys.intake(), {"to": "user:a"}, id="1000-0")
    await shard.intake.append(HELD, lines=[], heads={}, entry_ids=["1005-0"], item_ids=[], trim=True)
    assert await shard.ids(shard.keys.intake()) == ["1000-0"]


async def test_early_part_leaves_the_entries_around_it(shard: Shard) -> None:
    """With trim off only the named entries go: the durable ones before and behind still wait."""
    first, second, third = await _taken(shard, 3)
    await shard.intake.append(HELD, lines=[line("user:a", None)], heads={}, entry_ids=[second], item_ids=[], trim=False)
    assert await shard.ids(shard.keys.intake()) == [first, third]
    assert await shard.lines_out() == [line("user:a", None)]


@pytest.mark.parametrize("trim", [True, False])
async def test_more_values_than_one_command_takes(shard: Shard, trim: bool) -> None:
    """9,000 entries, lines and fields of pending pass unpack's limit."""
    ids = await _taken(shard, 9_000)
    fields = [f"user:a {number}" for number in range(9_000)]
    await shard.redis.hset(shard.keys.pending(), mapping=dict.fromkeys(fields, "1"))
    lines = [line("user:a", number) for number in range(9_000)]
    length = await shard.intake.append(HELD, lines=lines, heads={"user:a": 8_999}, entry_ids=ids, item_ids=fields, trim=trim)
    assert length == 282
    assert await shard.lines_out() == lines
    assert not await shard.redis.exists(shard.keys.pending())
    assert await shard.redis.xlen(shard.keys.intake()) == 0


async def test_entry_has_as_many_lines_as_are_handed_on_at_once(shard: Shard) -> None:
    """32 of 32 KiB together; a longer one stands alone, and so does a line of many; nothing changes places."""
    short = [line("user:a", seq) for seq in range(33)]
    long = [line("user:a", seq, text="x" * size) for seq, size in enumerate((16_000, 16_000, 40_000, 700, 50_000), start=50)]
    many = build_many([build_place("user:b", 1, 2)], "-", make_body("m", 7, '"text":"hi"').rest)
    lines = [*short, *long, many, many, short[0]]
    await shard.intake.append(HELD, lines=lines, heads={}, entry_ids=[], item_ids=[], trim=False)
    parts = [short[:32], [short[32], *long[:2]], *([one] for one in (*long[2:], many, many, short[0]))]
    assert await shard.texts_out() == ["\n".join(part) for part in parts]


async def test_nothing_to_move_is_no_error(shard: Shard) -> None:
    """A batch of nothing returns the length of `out`."""
    await shard.put_out(line("user:a", 1))
    assert await shard.intake.append(HELD, lines=[], heads={}, entry_ids=[], item_ids=[], trim=True) == 1


@pytest.mark.parametrize(
    "chosen",
    [["5-18446744073709551615"], ["5-1152921504606847105", "5-1152921504606847106"], ["18446744073709551614-0"]],
    ids=["last of its ms", "past 2^53", "far future"],
)
async def test_ids_that_producers_chose(shard: Shard, chosen: list[str]) -> None:
    """Any id that Redis takes is trimmed exactly: a producer may give ids of its own."""
    for entry_id in chosen:
        await shard.redis.xadd(shard.keys.intake(), {"to": "user:a", "text": "hi"}, id=entry_id)
    assert [entry.id for entry in await shard.intake.take(HELD, NEW)] == chosen
    await shard.intake.append(HELD, lines=[], heads={}, entry_ids=chosen[:1], item_ids=[], trim=True)
    assert await shard.ids(shard.keys.intake()) == chosen[1:]
