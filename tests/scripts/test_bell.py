"""router.bell: waiting for news on a stream without taking anything."""

from __future__ import annotations

import time

import anyio
import pytest

from router.bell import Bell
from router.settings import Settings
from router.streams import NEW
from tests.scripts.shard import HELD, Shard

pytestmark = pytest.mark.anyio

PATIENT = Settings(wait_ms=2_000)
BRISK = Settings(wait_ms=20)


async def _rings(bell: Bell) -> bool:
    """Tell whether the bell returns well before its longest wait."""
    began = time.monotonic()
    await bell.wait()
    return time.monotonic() - began < PATIENT.wait_ms / 2_000


async def test_rings_for_what_stands_there_and_once(shard: Shard) -> None:
    """What was there before the first wait is news; after that only what is behind it."""
    await shard.appended(1)
    bell = Bell(shard.redis, shard.intake.connection, [shard.keys.intake()], PATIENT)
    assert await _rings(bell)
    await shard.appended(1)
    assert await _rings(bell)


async def test_rings_when_something_is_appended(shard: Shard) -> None:
    """An entry appended during the wait ends it."""
    bell = Bell(shard.redis, shard.intake.connection, [shard.keys.intake()], PATIENT)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shard.appended, 1)
        assert await _rings(bell)


async def test_returns_in_silence(shard: Shard) -> None:
    """Without news it returns after `wait_ms`, with a stream or without."""
    for stream in (shard.keys.intake(), "push:{0}:nowhere"):
        with anyio.fail_after(60):
            await Bell(shard.redis, shard.intake.connection, [stream], BRISK).wait()


async def test_waits_no_longer_than_redis_may_take(shard: Shard) -> None:
    """The longest wait stays well below the time after which a silent Redis counts as away."""
    with anyio.fail_after(60):
        await Bell(
            shard.redis, shard.intake.connection, [shard.keys.intake()], Settings(wait_ms=60_000, redis_timeout_s=0.1)
        ).wait()


async def test_takes_nothing(shard: Shard) -> None:
    """The entry that rang is still new for the group."""
    ids = await shard.appended(2)
    await Bell(shard.redis, shard.intake.connection, [shard.keys.intake()], PATIENT).wait()
    assert [entry.id for entry in await shard.intake.take(HELD, NEW)] == ids


async def test_hears_a_stream_that_began_anew(shard: Shard) -> None:
    """Redis lost the stream and counts from lower ids: after one silence the bell rings for them."""
    await shard.redis.xadd(shard.keys.intake(), {"to": "user:a"}, id="9999999999999-0")
    bell = Bell(shard.redis, shard.intake.connection, [shard.keys.intake()], BRISK)
    await bell.wait()
    await shard.redis.delete(shard.keys.intake())
    await bell.wait()
    await shard.appended(1)
    patient = Bell(shard.redis, shard.intake.connection, [shard.keys.intake()], PATIENT)
    patient._positions = bell._positions
    assert await _rings(patient)


async def test_tells_which_of_several_streams_rang(shard: Shard) -> None:
    """One bell serves both lanes: it names those with news, each once, and all of them in silence."""
    slow, fast = shard.keys.out(), shard.keys.fast()
    bell = Bell(shard.redis, shard.intake.connection, [slow, fast], BRISK)
    await shard.redis.xadd(fast, {"to": "user:a"})
    assert await bell.wait() == [fast]
    await shard.redis.xadd(slow, {"line": "x"})
    assert await bell.wait() == [slow]
    await shard.redis.xadd(slow, {"line": "x"})
    await shard.redis.xadd(fast, {"to": "user:a"})
    assert sorted(await bell.wait()) == sorted([slow, fast])
    assert await bell.wait() == [slow, fast]
