"""lua/take.lua through Intake: the next entries for the holder of the lease, in order."""

from __future__ import annotations

import pytest

from router.streams import NEW, TAKEN_BEFORE
from tests.scripts.shard import HELD, Shard

pytestmark = pytest.mark.anyio


async def _take(shard: Shard, start: str) -> list[str]:
    return [entry.id for entry in await shard.intake.take(HELD, start)]


async def test_fields_come_whole_and_in_order(shard: Shard) -> None:
    """Names and values are bytes, in the order given; a field given twice is there twice."""
    flat = [b"to", b"user:a", b"to", b"user:b", b"\xff", b"\x00\n", b"", b""]
    await shard.append_flat("7-1", flat)
    (entry,) = await shard.intake.take(HELD, NEW)
    assert entry.id == "7-1"
    assert entry.fields == list(zip(flat[::2], flat[1::2], strict=True))


async def test_new_entries_come_once_and_in_order(shard: Shard) -> None:
    """What was taken is not new again, and is found among what was taken before, in order."""
    first = await shard.appended(100)
    assert await _take(shard, NEW) == first
    second = await shard.appended(100)
    assert await _take(shard, NEW) == second
    assert await _take(shard, NEW) == []
    assert await _take(shard, TAKEN_BEFORE) == first + second
    assert await _take(shard, TAKEN_BEFORE) == first + second


async def test_most_entries_of_a_call(shard: Shard) -> None:
    """`batch_max` entries are taken in steps of the script's own, exactly, new or taken before."""
    ids = await shard.appended(300)
    shard = shard.with_settings(batch_max=150)
    assert await _take(shard, NEW) == ids[:150]
    assert await _take(shard, NEW) == ids[150:]
    assert await _take(shard, TAKEN_BEFORE) == ids[:150]


async def test_bytes_of_a_call_are_bounded(shard: Shard) -> None:
    """A call ends with the entry that passes the budget; the rest waits."""
    ids = await shard.appended(200, to="user:a", text="x" * 1_000)
    shard = shard.with_settings(read_max_bytes=10_000)
    assert await _take(shard, NEW) == ids[:10]
    assert await _take(shard, NEW) == ids[10:20]
    assert await _take(shard, TAKEN_BEFORE) == ids[:10]


async def test_targets_of_a_call_are_bounded(shard: Shard) -> None:
    """What is taken is brought to its end before anything else, so a call takes no ten entries to thousands each."""
    to = ",".join(f"user:u{number}" for number in range(100))
    ids = await shard.appended(5, to=to, text="hi")
    ids += await shard.appended(300)
    shard = shard.with_settings(batch_max=250)
    assert await _take(shard, NEW) == ids[:3]
    assert await _take(shard, NEW) == ids[3:55]
    assert await _take(shard, NEW) == ids[55:]
    assert await _take(shard, TAKEN_BEFORE) == ids[:3]


async def test_entries_that_suddenly_grow_are_few(shard: Shard) -> None:
    """Nobody knows how large an entry is before it is read, so no call asks for very many at once."""
    small = await shard.appended(600)
    large = await shard.appended(1_000, to="user:a", text="x" * 1_000)
    shard = shard.with_settings(read_max_bytes=100_000, batch_max=3_000)
    most_at_once = 256
    assert len(small) < len(await _take(shard, NEW)) <= len(small) + most_at_once < len(small) + len(large)


async def test_entry_larger_than_the_budget_is_taken(shard: Shard) -> None:
    """An entry that no budget holds stops nothing."""
    ids = await shard.appended(1, to="user:a", text="x" * 5_000)
    assert await _take(shard.with_settings(read_max_bytes=100), NEW) == ids


async def test_deleted_pending_entries_are_acknowledged_and_left_out(shard: Shard) -> None:
    """Somebody deleted what had been taken: it is passed over for good, wherever in the order it stood."""
    ids = await shard.appended(200)
    await _take(shard, NEW)
    gone = [ids[0], *ids[60:140], ids[-1]]
    await shard.redis.xdel(shard.keys.intake(), *gone)
    left = [entry_id for entry_id in ids if entry_id not in gone]
    assert await _take(shard, TAKEN_BEFORE) == left
    assert await shard.pending_ids(shard.keys.intake(), "collect") == left


async def test_group_is_made_where_it_is_missing(real_shard: Shard) -> None:
    """A group begins with the oldest entry, so nothing that was appended before the first start is passed over."""
    shard = real_shard  # fakeredis answers XREADGROUP on a missing key with another error than NOGROUP
    await shard.redis.delete(shard.keys.intake())
    assert await _take(shard, NEW) == []
    await shard.redis.delete(shard.keys.intake())
    ids = await shard.appended(3)
    assert await _take(shard, TAKEN_BEFORE) == []
    assert await _take(shard, NEW) == ids
