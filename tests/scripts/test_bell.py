"""router.bell: waiting for what is appended to a stream, without taking anything."""

from __future__ import annotations

import anyio
import pytest

from router.bell import Bell
from router.collect.entries import Entry
from router.collect.intake import read_entries
from router.settings import Settings
from router.streams import NEW
from tests.scripts.shard import HELD, Shard
from tests.stopwatch import Stopwatch

pytestmark = pytest.mark.anyio

PATIENT = Settings(wait_ms=2_000)
BRISK = Settings(wait_ms=20)


async def _rings(bell: Bell) -> bool:
    """Tell whether the bell returns well before its longest wait."""
    watch = Stopwatch()
    await bell.wait()
    return watch.own_s() < PATIENT.wait_ms / 2_000


async def test_rings_for_what_stands_there(shard: Shard) -> None:
    """What was there before the first wait is news like what came behind it."""
    await shard.appended(1)
    bell = Bell(shard.intake.connection, shard.keys.intake(), PATIENT)
    assert await _rings(bell)
    await shard.appended(1)
    assert await _rings(bell)


async def test_rings_when_something_is_appended(shard: Shard) -> None:
    """An entry appended during the wait ends it."""
    bell = Bell(shard.intake.connection, shard.keys.intake(), PATIENT)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shard.appended, 1)
        assert await _rings(bell)


async def test_returns_in_silence(shard: Shard) -> None:
    """Without news it returns after `wait_ms`, with a stream or without."""
    for stream in (shard.keys.intake(), "push:{0}:nowhere"):
        with anyio.fail_after(60):
            await Bell(shard.intake.connection, stream, BRISK).wait()


async def test_waits_no_longer_than_redis_may_take(shard: Shard) -> None:
    """The longest wait stays well below the time after which a silent Redis counts as away."""
    with anyio.fail_after(60):
        settings = Settings(wait_ms=60_000, redis_timeout_s=0.1)
        await Bell(shard.intake.connection, shard.keys.intake(), settings).wait()


async def test_brings_what_stands_there_and_takes_nothing(shard: Shard) -> None:
    """Fields come as take.lua has them; what rang is there still, and rings again until it is done."""
    flat = [b"to", b"user:a", b"to", b"\xff\x00\n"]
    entry_id = await shard.append_flat("*", flat)
    bell = Bell(shard.intake.connection, shard.keys.intake(), PATIENT)
    for _ in range(2):
        assert read_entries(await bell.wait()) == await shard.intake.take(HELD, NEW)
    (entry,) = read_entries(await bell.wait())
    assert entry == Entry(entry_id, flat)


async def test_hears_a_stream_that_began_anew(shard: Shard) -> None:
    """Redis lost the stream and counts from lower ids: the bell rings for them."""
    await shard.redis.xadd(shard.keys.intake(), {"to": "user:a"}, id="9999999999999-0")
    bell = Bell(shard.intake.connection, shard.keys.intake(), PATIENT)
    await bell.wait()
    await shard.redis.delete(shard.keys.intake())
    await shard.appended(1)
    assert await _rings(bell)


async def test_brings_more_where_more_waits(shard: Shard) -> None:
    """Few at first, since nobody knows how long they are; then as many as make a batch, and few again when there are few."""
    ids = await shard.appended(2_000)
    bell = Bell(shard.intake.connection, shard.keys.intake(), Settings(batch_max=1_000))
    assert [len(await bell.wait()) for _ in range(4)] == [32, 256, 1_000, 1_000]
    await shard.redis.xtrim(shard.keys.intake(), minid=ids[-10], approximate=False)
    assert len(await bell.wait()) == 10
    await shard.appended(1_000)
    assert len(await bell.wait()) == 32


async def test_bytes_of_a_ring_are_bounded(shard: Shard) -> None:
    """By those of the entries before; and by the longest that there are, however short those were."""
    stream = shard.keys.intake()
    await shard.appended(500, to="user:a", text="x" * 1_000)
    settings = Settings(read_max_bytes=100_000, body_max_bytes=1_024)
    bell = Bell(shard.intake.connection, stream, settings)
    assert [len(await bell.wait()) for _ in range(2)] == [32, 98]
    await shard.redis.xtrim(stream, maxlen=0, approximate=False)
    await shard.appended(2_000, to="user:a", text="x")
    bell = Bell(shard.intake.connection, stream, settings)
    assert [len(await bell.wait()) for _ in range(3)] == [32, 256, 8 * 97]
