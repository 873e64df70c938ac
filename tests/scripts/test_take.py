"""lua/take.lua through Intake: the next entries for the holder of the lease, in order."""

from __future__ import annotations

import pytest

from router.streams import NEW, TAKEN_BEFORE
from tests.scripts.shard import HELD, Shard, item

pytestmark = pytest.mark.anyio


async def _take(shard: Shard, start: str) -> list[str]:
    return [entry.id for entry in await shard.intake.take(HELD, start)]


async def test_fields_come_whole_and_in_order(shard: Shard) -> None:
    """Names and values are bytes, in the order given; a field given twice is there twice."""
    flat = [b"to", b"user:a", b"to", b"user:b", b"\xff", b"\x00\n", b"", b""]
    await shard.append_flat("7-1", flat)
    (entry,) = await shard.intake.take(HELD, NEW)
    assert entry.id == "7-1"
    assert entry.flat == flat


async def _note(shard: Shard, taken: str) -> None:
    """Give a batch its seqs, up to this entry."""
    await shard.intake.sequence(HELD, shard.era, [item("user:a", "m")], {"user:a": 0}, taken)


async def _done(shard: Shard, ids: list[str]) -> None:
    await shard.intake.append(HELD, lines=[], heads={}, entry_ids=ids, item_ids=[], trim=True)


async def test_entries_come_in_order_until_they_are_done(shard: Shard) -> None:
    """What stands there is what is still to be done: reading changes nothing."""
    ids = await shard.appended(200)
    assert await _take(shard, NEW) == ids
    assert await _take(shard, NEW) == ids
    await _done(shard, ids[:150])
    assert await _take(shard, NEW) == ids[150:]


async def test_what_may_have_been_in_hand_is_found_apart(shard: Shard) -> None:
    """It ends with the last entry of a batch that was given seqs; what was read alone, or came later, is new."""
    ids = await shard.appended(100)
    assert await _take(shard, TAKEN_BEFORE) == []
    await _take(shard, NEW)
    assert await _take(shard, TAKEN_BEFORE) == []
    await _note(shard, ids[59])
    await _note(shard, "")
    await shard.appended(10)
    assert await _take(shard, TAKEN_BEFORE) == ids[:60]
    await _done(shard, ids[:60])
    assert await _take(shard, TAKEN_BEFORE) == []


async def test_what_an_earlier_version_had_in_hand_is_found(shard: Shard) -> None:
    """It is pending in the group, and is first until all of it is done; then nothing is pending any more."""
    stream = shard.keys.intake()
    ids = await shard.appended(50)
    await shard.redis.xreadgroup("collect", "collect", {stream: ">"}, count=40)
    assert await _take(shard, TAKEN_BEFORE) == ids[:40]
    await _note(shard, ids[9])
    await _done(shard, ids[:10])
    assert await _take(shard, TAKEN_BEFORE) == ids[10:40]
    await _note(shard, ids[44])
    assert await _take(shard, TAKEN_BEFORE) == ids[10:45]
    await _done(shard, ids[10:45])
    assert await _take(shard, TAKEN_BEFORE) == []
    assert await shard.pending_ids(stream, "collect") == []
    assert await _take(shard, NEW) == ids[45:]


async def test_an_earlier_version_finds_what_is_not_done(shard: Shard) -> None:
    """It begins behind the group's position, which never passes an entry that stands there."""
    stream = shard.keys.intake()
    ids = await shard.appended(50)
    await _take(shard, NEW)
    await _note(shard, ids[29])
    await _done(shard, ids[:10])
    read = await shard.redis.xreadgroup("collect", "collect", {stream: ">"})
    assert [entry_id.decode() for entry_id, _ in read[0][1]] == ids[10:]


async def test_position_tells_how_far_collect_has_come(shard: Shard) -> None:
    """To the end of each batch; and to the end of a stream where nothing is left, whoever has removed it."""
    stream = shard.keys.intake()

    async def position() -> str:
        (group,) = await shard.redis.xinfo_groups(stream)
        told: bytes = group["last-delivered-id"]
        return told.decode()

    ids = await shard.appended(3)
    await _take(shard, NEW)
    await _done(shard, ids[:2])
    assert await position() == ids[1]
    await shard.redis.xdel(stream, ids[2])
    await _take(shard, NEW)
    assert await position() == ids[2]


async def test_most_entries_of_a_call(shard: Shard) -> None:
    """`batch_max` entries are taken in steps of the script's own, exactly."""
    ids = await shard.appended(300)
    shard = shard.with_settings(batch_max=150)
    assert await _take(shard, NEW) == ids[:150]
    await _note(shard, ids[-1])
    assert await _take(shard, TAKEN_BEFORE) == ids[:150]


async def test_bytes_of_a_call_are_bounded(shard: Shard) -> None:
    """A call ends with the entry that passes the budget; the rest waits."""
    ids = await shard.appended(200, to="user:a", text="x" * 1_000)
    shard = shard.with_settings(read_max_bytes=10_000)
    assert await _take(shard, NEW) == ids[:10]


async def test_targets_of_a_call_are_bounded(shard: Shard) -> None:
    """What is taken is brought to its end before anything else, so a call takes no ten entries to thousands each."""
    to = ",".join(f"user:u{number}" for number in range(100))
    ids = await shard.appended(5, to=to, text="hi")
    ids += await shard.appended(300)
    shard = shard.with_settings(batch_max=250)
    for first, last in ((0, 3), (3, 55), (55, 305)):
        assert await _take(shard, NEW) == ids[first:last]
        await _done(shard, ids[first:last])


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


async def test_group_is_made_where_it_is_missing(real_shard: Shard) -> None:
    """A group begins with the oldest entry, so nothing that was appended before the first start is passed over."""
    shard = real_shard  # fakeredis answers another error than NOGROUP
    await shard.redis.delete(shard.keys.intake())
    assert await _take(shard, NEW) == []
    await shard.redis.delete(shard.keys.intake())
    ids = await shard.appended(3)
    assert await _take(shard, TAKEN_BEFORE) == []
    assert len(await shard.redis.xinfo_groups(shard.keys.intake())) == 1
    assert await _take(shard, NEW) == ids
