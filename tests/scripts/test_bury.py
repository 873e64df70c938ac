"""lua/bury.lua through Intake and Outlet: what cannot be accepted goes whole to the dead-letter stream."""

from __future__ import annotations

import json

import pytest

from router.streams import NEW
from tests.scripts.shard import HELD, Shard

pytestmark = pytest.mark.anyio


async def _raw(shard: Shard, stream: str) -> list[list[bytes]]:
    """Return the fields and values of a stream's entries, flat and in order."""
    script = "local all = {} for i, e in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do all[i] = e[2] end return all"
    flat: list[list[bytes]] = await shard.redis.eval(script, 1, stream)
    return flat


async def test_entry_is_buried_whole(shard: Shard) -> None:
    """Reason, source and entry id stand before the entry's own fields, which keep order, repeats and bytes."""
    flat = [b"to", b"user:a", b"reason", b"mine", b"to", b"\xff\x00\n"]
    entry_id = await shard.append_flat("*", flat)
    await shard.intake.take(HELD, NEW)
    assert await shard.intake.bury(HELD, [(entry_id, "to: given twice")]) == 1
    head = [b"reason", b"to: given twice", b"source", shard.keys.intake().encode(), b"entry", entry_id.encode()]
    assert await _raw(shard, shard.keys.dead()) == [head + flat]
    assert await shard.ids(shard.keys.intake()) == []


async def test_only_the_named_entries_go(shard: Shard) -> None:
    """Entries around the dead stay where they are and as they are."""
    ids = await shard.appended(4)
    await shard.with_settings(batch_max=3).intake.take(HELD, NEW)
    assert await shard.intake.bury(HELD, [(ids[0], "one"), (ids[2], "two")]) == 2
    assert await shard.ids(shard.keys.intake()) == [ids[1], ids[3]]
    assert [(entry["entry"], entry["reason"]) for entry in await shard.entries(shard.keys.dead())] == [
        (ids[0], "one"),
        (ids[2], "two"),
    ]


async def test_burying_again_changes_nothing(shard: Shard) -> None:
    """An entry that is gone is passed over, twice in one call or in another."""
    (entry_id,) = await shard.appended(1)
    await shard.intake.take(HELD, NEW)
    assert await shard.intake.bury(HELD, [(entry_id, "first"), (entry_id, "second")]) == 1
    assert await shard.intake.bury(HELD, [(entry_id, "third")]) == 0
    assert [entry["reason"] for entry in await shard.entries(shard.keys.dead())] == ["first"]


@pytest.mark.parametrize("fields", [3_490, 3_600, 20_000])
async def test_entry_of_very_many_fields(shard: Shard, fields: int) -> None:
    """What one command cannot take is kept as one JSON array, complete."""
    flat = [f"part{number}".encode() for number in range(2 * fields)]
    entry_id = await shard.append_flat("*", flat)
    await shard.intake.take(HELD, NEW)
    assert await shard.intake.bury(HELD, [(entry_id, "too many")]) == 1
    (raw,) = await _raw(shard, shard.keys.dead())
    kept = [part.encode() for part in json.loads(raw[7])] if raw[6] == b"fields" else raw[6:]
    assert kept == flat


async def test_dead_letters_are_capped(shard: Shard) -> None:
    """About `dead_max` are kept, the newest."""
    ids = await shard.appended(1_000)
    await shard.intake.take(HELD, NEW)
    await shard.with_settings(dead_max=200).intake.bury(HELD, [(entry_id, "no") for entry_id in ids])
    kept = [entry["entry"] for entry in await shard.entries(shard.keys.dead())]
    assert 200 <= len(kept) < 400
    assert kept == ids[-len(kept) :]
