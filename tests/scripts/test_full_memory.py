"""Redis at maxmemory: producers are refused, everything else goes on until it is empty again.

On the real servers only: fakeredis has no maxmemory.
"""

from __future__ import annotations

import anyio
import pytest
from redis.exceptions import OutOfMemoryError

import lua
from router.collect.batch import Forward
from router.collect.intake import Place
from router.dispatch import Lane, Moved
from router.redis_client import check_redis
from router.settings import Settings
from router.streams import NEW, TAKEN_BEFORE
from tests.scripts.shard import HELD, Shard, item, line

pytestmark = pytest.mark.anyio

EDGE = "push:{0}:node:edge.1"
MARGIN_BYTES = 400_000


async def _fill(shard: Shard) -> None:
    """Set maxmemory below what is used now, by more than buffers that come and go may take or give."""
    with anyio.fail_after(60):
        while True:
            info = await shard.redis.info("memory")
            await shard.redis.config_set("maxmemory", info["used_memory"] - MARGIN_BYTES)
            if await _refuses_producers(shard):
                return
            # A large buffer of the test before has been given back meanwhile: less is used now.
            await anyio.sleep(0.05)


async def _refuses_producers(shard: Shard) -> bool:
    try:
        # In a place of its own: where it is not refused, it is in nobody's way.
        await shard.redis.xadd("push:{0}:tried", {"to": "user:a", "text": "hi"})
    except OutOfMemoryError:
        return True
    return False


async def _takes_messages_again(shard: Shard, lane: Lane) -> None:
    """Return when producers are refused no longer.

    Buffers of clients count as memory too, and so may what calls have left to Lua's garbage collector, which goes on with
    the next calls: dispatch, with nothing to do, makes them every `wait_ms`.
    """
    while await _refuses_producers(shard):
        await shard.outlet.dispatch(HELD, 500, lane)
        await anyio.sleep(0.05)


async def test_leases_come_and_go(real_shard: Shard) -> None:
    """A lease is renewed, released and taken anew, by whoever takes over when the memory is full."""
    shard = real_shard
    take, renew, release = (shard.redis.register_script(lua.source(f"lease_{verb}")) for verb in ("take", "renew", "release"))
    await _fill(shard)
    for owner in ("me", "you"):
        taken, held = await take(keys=["push:{0}:lease:new"], args=[owner, 60_000])
        assert taken == 1
        assert await renew(keys=["push:{0}:lease:new"], args=[held, 60_000]) == 1
        assert await release(keys=["push:{0}:lease:new"], args=[held]) == 1


async def test_service_can_start(real_shard: Shard) -> None:
    """A worker that starts while the memory is full finds Redis fit: it is what will empty it."""
    settings = Settings()
    await check_redis(real_shard.redis, settings)
    await _fill(real_shard)
    await check_redis(real_shard.redis, settings)


async def test_entries_are_moved_on_to_their_shard(real_shard: Shard) -> None:
    """What belongs to another shard is appended there although the memory is full, or this one could never be emptied."""
    await _fill(real_shard)
    await real_shard.intake.forward([Forward(1, {"to": b"user:a", "text": b"hi"})])
    assert await real_shard.redis.xlen("push:{1}:in") == 1


async def test_stream_that_was_filled_before_its_reader_came(real_shard: Shard) -> None:
    """The group is made although the memory is full: who else should empty the stream?"""
    shard = real_shard
    ids = await shard.appended(10)
    await shard.redis.xgroup_destroy(shard.keys.intake(), "collect")
    await _fill(shard)
    assert await shard.intake.take(HELD, TAKEN_BEFORE) == []
    assert [entry.id for entry in await shard.intake.take(HELD, NEW)] == ids


async def test_intake_drains(real_shard: Shard) -> None:
    """Take, sequence, append and bury all work, step by step, until producers are served again."""
    shard = real_shard
    await shard.appended(3_000, to="user:a", text="x" * 1_000)
    await _fill(shard)
    shard = shard.with_settings(batch_max=500)
    seen = 0
    while entries := await shard.intake.take(HELD, NEW):
        dead, *good = entries
        await shard.intake.bury(HELD, [(dead.id, "by the test")])
        items = [item("user:a", str(seen + number), entry.id) for number, entry in enumerate(good)]
        places = await shard.place(HELD, items, {} if seen else {"user:a": 0})
        assert isinstance(places, list)
        seqs = [place.seq for place in places if isinstance(place, Place)]
        await shard.intake.append(
            HELD,
            lines=[line("user:a", seq) for seq in seqs],
            heads={"user:a": seqs[-1]},
            entry_ids=[entry.id for entry in good],
            item_ids=[one.id for one in items],
            trim=True,
        )
        seen += len(good)
    assert seen == 3_000 - 6
    assert not await _refuses_producers(shard)


async def test_early_part_is_appended(real_shard: Shard) -> None:
    """Transient messages, whose part has nothing pending to forget, pass a full Redis too."""
    shard = real_shard
    ids = await shard.appended(100)
    await shard.intake.take(HELD, NEW)
    await _fill(shard)
    lines = [line("user:a", None) for _ in ids]
    assert await shard.intake.append(HELD, lines=lines, heads={}, entry_ids=ids, item_ids=[], trim=False)
    assert await shard.lines_out() == lines


async def test_out_drains(real_shard: Shard) -> None:
    """Dispatch publishes, reports and deletes, and producers are served again."""
    shard = real_shard
    await shard.route("a", "edge.1", route_ms=600_000)
    await shard.put_out(*(line("user:a" if seq % 2 else "user:gone", seq, text="x" * 1_000) for seq in range(3_000)))
    shard = shard.with_settings(offline_max=10)
    await _fill(shard)
    with anyio.fail_after(60):
        while (result := await shard.outlet.dispatch(HELD, 500)).taken:
            assert result.offline
        await _takes_messages_again(shard, Lane.OUT)


@pytest.mark.parametrize("what", ["handed on", "dead", "moved"])
async def test_fast_lane_drains(real_shard: Shard, what: str) -> None:
    """What producers put there while there was room leaves it, whichever way it goes."""
    shard = real_shard.with_settings(shards=2 if what == "moved" else 1, dead_max=10)
    await shard.route("a", "edge.1", route_ms=600_000)
    field = "tll" if what == "dead" else "text"
    await shard.put_fast(*(("to", "user:a", field, "x" * 1_000) for _ in range(3_000)))
    await _fill(shard)
    with anyio.fail_after(60):
        while (result := await shard.outlet.dispatch(HELD, 500, Lane.FAST)).taken:
            assert {"handed on": result.published, "dead": result.dead, "moved": len(result.moved)}[what] == result.done
        await _takes_messages_again(shard, Lane.FAST)


async def test_fast_entries_are_moved_on_to_their_shard(real_shard: Shard) -> None:
    """They are appended there although the memory is full."""
    await _fill(real_shard)
    await real_shard.outlet.move([Moved(1, [b"to", b"user:a", b"text", b"hi"])])
    assert await real_shard.redis.xlen("push:{1}:fast") == 1


async def test_failing_entry_is_buried(real_shard: Shard) -> None:
    """A malformed line is moved out of the way."""
    shard = real_shard
    (entry_id,) = await shard.put_out("malformed")
    await _fill(shard)
    assert (await shard.outlet.dispatch(HELD, 10)).failed_id == entry_id
    assert await shard.ids(shard.keys.out()) == []
