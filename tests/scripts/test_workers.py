"""worker_beat.lua through Workers: who lives, by Redis' clock; and who holds which shard."""

from __future__ import annotations

import pytest

from router.keys import Keys
from router.settings import Settings
from router.share import FREE
from router.workers import Workers, make_worker_id, spread
from tests.scripts.shard import Shard, now_ms

pytestmark = pytest.mark.anyio

KEY = Keys("push", 0).workers("collect")
LEASE_MS = 60_000


def _workers(shard: Shard, **changes: int) -> Workers:
    return Workers(shard.redis, Settings(**{"lease_ms": LEASE_MS, "shards": 3, **changes}), "collect")


async def test_each_hears_of_the_others(shard: Shard) -> None:
    """A beat lists the caller with all that live; somebody who leaves is missed at once."""
    workers = _workers(shard)
    assert await workers.beat("one") == ["one"]
    assert await workers.beat("two") == ["one", "two"]
    assert await workers.living() == ["one", "two"]
    await workers.leave("one")
    assert await workers.beat("two") == ["two"]


async def test_a_beat_lasts_as_long_as_a_lease(shard: Shard) -> None:
    """By Redis' clock."""
    await _workers(shard).beat("one")
    score = await shard.redis.zscore(KEY, "one")
    assert score is not None
    assert abs(score - now_ms() - LEASE_MS) < 2_000


async def test_the_dead_are_forgotten(shard: Shard) -> None:
    """Who has lapsed is no worker to people, and removed by the next beat."""
    await shard.redis.zadd(KEY, {"dead": now_ms() - 5_000})
    workers = _workers(shard)
    assert await workers.living() == []
    assert await workers.beat("one") == ["one"]
    assert await shard.redis.zcard(KEY) == 1


async def test_full_redis_takes_a_beat(real_shard: Shard) -> None:
    """Workers come and go while memory is full: they are who empties it."""
    await real_shard.redis.config_set("maxmemory", 1)
    assert await _workers(real_shard).beat("one") == ["one"]


async def test_holders_are_those_of_the_leases(shard: Shard) -> None:
    """By shard; a name has no token in it."""
    await shard.redis.set(Keys("push", 0).lease("collect"), "one 1732262400123456")
    await shard.redis.set(Keys("push", 2).lease("collect"), "two 1732262400123457")
    await shard.redis.set(Keys("push", 1).lease("dispatch"), "one 1732262400123458")
    assert await _workers(shard).holders() == ["one", FREE, "two"]


def test_spread_counts_all() -> None:
    """Those that hold none, and those that hold some and do not live."""
    assert spread(["a", "b"], ["a", FREE, "z", "a"]) == {"a": 2, "b": 0, "z": 1}


def test_ids_are_unlike() -> None:
    """Two workers of one host have two names, both of which begin with it."""
    one, two = make_worker_id("host"), make_worker_id("host")
    assert one != two
    assert one.startswith("host.")
    assert len(one) == len("host.") + 6
