"""era_begin.lua and era_confirm.lua, and what the other scripts make of an era that is over."""

from __future__ import annotations

import pytest

from router.collect.intake import Cold, Forgetful, Place
from tests.scripts.shard import HELD, Shard, item, line
from tests.scripts.test_routes import route_set

pytestmark = pytest.mark.anyio


async def another_redis(shard: Shard) -> None:
    """Have the shard find itself on a Redis that is not the one it knew."""
    await shard.redis.hset(shard.keys.era(), mapping={"server": "before", "recovered": "before"})


async def test_an_era_begins_once_a_redis(shard: Shard) -> None:
    """The number rises when the server has another name; until the recovery is confirmed it stays due."""
    server, due = await shard.intake.begin_era(HELD)
    assert not due
    await another_redis(shard)
    for _ in range(2):
        assert await shard.intake.begin_era(HELD) == (server, True)
        assert await shard.redis.hget(shard.keys.era(), "era") == b"2"
    assert await shard.intake.confirm_era(HELD, server)
    assert await shard.intake.begin_era(HELD) == (server, False)


async def test_the_first_era_of_an_empty_redis(shard: Shard) -> None:
    """All of Redis is gone, or new: the first era begins, and the shard has to be recovered."""
    await shard.redis.delete(shard.keys.era())
    _, due = await shard.intake.begin_era(HELD)
    assert due
    assert await shard.redis.hget(shard.keys.era(), "era") == b"1"


async def test_an_era_without_number_is_begun_anew(shard: Shard) -> None:
    """Somebody took the number away: nothing is placed until there is one again."""
    await shard.redis.hdel(shard.keys.era(), "era")
    with pytest.raises(Forgetful):
        await shard.intake.sequence(HELD, [item("user:a", "1")], {"user:a": 0})
    await shard.intake.begin_era(HELD)
    assert await shard.redis.hget(shard.keys.era(), "era") == b"1"
    assert isinstance(await shard.intake.sequence(HELD, [item("user:a", "1")], {"user:a": 0}), list)


async def test_a_recovery_that_redis_overtook_does_not_count(shard: Shard) -> None:
    """Redis changed while the shard was being recovered: it has to be done again."""
    assert not await shard.intake.confirm_era(HELD, "before")
    server, due = await shard.intake.begin_era(HELD)
    assert not due
    await another_redis(shard)
    assert not await shard.intake.confirm_era(HELD, server)


async def test_a_restart_and_a_failover_are_seen(real_shard: Shard) -> None:
    """A server that becomes a primary has another replication id than the primary it followed."""
    server, _ = await real_shard.intake.begin_era(HELD)
    await real_shard.redis.replicaof("127.0.0.1", "1")
    await real_shard.redis.replicaof("NO", "ONE")
    with pytest.raises(Forgetful):
        await real_shard.intake.sequence(HELD, [item("user:a", "1")], {"user:a": 0})
    other, due = await real_shard.intake.begin_era(HELD)
    assert due
    assert other != server


async def test_nothing_is_placed_before_the_recovery(shard: Shard) -> None:
    """The heads that Redis remembers may be too low: a place behind one of them would pass messages over."""
    await another_redis(shard)
    with pytest.raises(Forgetful):
        await shard.intake.sequence(HELD, [item("user:a", "1")], {"user:a": 0})
    assert not await shard.redis.exists(shard.keys.pending(), shard.keys.seq("user:a"))
    await shard.intake.begin_era(HELD)
    with pytest.raises(Forgetful):
        await shard.intake.sequence(HELD, [item("user:a", "1")], {"user:a": 0})


async def test_a_head_of_another_era_counts_for_nothing(shard: Shard) -> None:
    """Its target is cold to collect and unknown to edges, but the last seq given is passed all the same."""
    given = 9_007_199_254_000_000
    await shard.count("user:a", given=given, handed=given)
    await another_redis(shard)
    assert await route_set(shard, {"a": True}) == [0, b""]
    await shard.intake.begin_era(HELD)
    assert await route_set(shard, {"a": True}) == [1, b""]
    await shard.recover()
    assert await shard.intake.sequence(HELD, [item("user:a", "1")], {}) == Cold(("user:a",))
    assert await shard.intake.sequence(HELD, [item("user:a", "1")], {"user:a": 7}) == [Place(7, given + 1)]
    assert await route_set(shard, {"a": True}) == [1, b"7"]


async def test_an_appended_head_is_of_the_present_era(shard: Shard) -> None:
    """What recovery appends makes a head that counts, also where the one before was as high."""
    await shard.count("user:a", handed=5)
    await another_redis(shard)
    await shard.recover()
    await shard.intake.append(HELD, lines=[line("user:a", 5)], heads={"user:a": 5}, entry_ids=[], item_ids=[], trim=False)
    assert await shard.counters("user:a") == {"handed": 5}
    assert await route_set(shard, {"a": True}) == [0, b"5"]
