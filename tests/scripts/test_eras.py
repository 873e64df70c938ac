"""era_begin.lua and era_confirm.lua, and what the other scripts make of an era that is over."""

from __future__ import annotations

import pytest

from router.collect.eras import NONE_YET, Era
from router.collect.intake import Cold, Forgetful, Place
from tests.scripts.shard import HELD, Shard, item, line
from tests.scripts.test_routes import NODE, TTL_MS, call, route_set

pytestmark = pytest.mark.anyio


async def another_redis(shard: Shard) -> None:
    """Have the shard find itself on a Redis that is not the one it knew."""
    await shard.redis.hset(shard.keys.era(), "server", "before")


async def test_an_era_begins_once_a_redis(shard: Shard) -> None:
    """The number rises when the server has another name; until the recovery is confirmed it stays due."""
    first = shard.era
    assert await shard.intake.begin_era(HELD, first) == (first, False)
    await another_redis(shard)
    second, due = await shard.intake.begin_era(HELD, first)
    assert (second, due) == (Era(first.server, first.number + 1), True)
    assert await shard.intake.begin_era(HELD, second) == (second, True)
    assert await shard.intake.confirm_era(HELD, second)
    assert await shard.intake.begin_era(HELD, second) == (second, False)


async def test_the_first_era_of_an_empty_redis(shard: Shard) -> None:
    """All of Redis is gone, or new: an era begins above all that MongoDB knows of, and the shard has to be recovered."""
    await shard.redis.delete(shard.keys.era())
    assert await shard.intake.begin_era(HELD, NONE_YET) == (Era(shard.era.server, 1), True)
    await shard.redis.delete(shard.keys.era())
    assert await shard.intake.begin_era(HELD, Era("another", 7)) == (Era(shard.era.server, 8), True)


async def test_a_redis_that_served_before_and_comes_back(shard: Shard) -> None:
    """It has its name and its note of the era still, but MongoDB knows that another has served since."""
    here = shard.era
    meanwhile = Era("another", here.number + 1)
    assert await shard.intake.begin_era(HELD, meanwhile) == (Era(here.server, meanwhile.number + 1), True)


async def test_an_era_that_mongodb_has_not_heard_of(shard: Shard) -> None:
    """The owner ended before it could note it, or MongoDB was set back: another one is begun, and noted."""
    assert await shard.intake.begin_era(HELD, NONE_YET) == (Era(shard.era.server, shard.era.number + 1), True)


async def test_an_era_without_number_is_begun_anew(shard: Shard) -> None:
    """Somebody took the number away: nothing is placed until there is one again."""
    await shard.redis.hdel(shard.keys.era(), "era")
    with pytest.raises(Forgetful):
        await shard.place(HELD, [item("user:a", "1")], {"user:a": 0})
    await shard.recover()
    assert isinstance(await shard.place(HELD, [item("user:a", "1")], {"user:a": 0}), list)


async def test_a_recovery_that_redis_overtook_does_not_count(shard: Shard) -> None:
    """Redis changed while the shard was being recovered: it has to be done again."""
    first = shard.era
    await another_redis(shard)
    second, _ = await shard.intake.begin_era(HELD, first)
    assert not await shard.intake.confirm_era(HELD, first)
    assert await shard.intake.begin_era(HELD, second) == (second, True)


async def test_a_restart_and_a_failover_are_seen(real_shard: Shard) -> None:
    """A server that becomes a primary has another replication id than the primary it followed."""
    first = real_shard.era
    await real_shard.redis.replicaof("127.0.0.1", "1")
    await real_shard.redis.replicaof("NO", "ONE")
    with pytest.raises(Forgetful):
        await real_shard.place(HELD, [item("user:a", "1")], {"user:a": 0})
    second, due = await real_shard.intake.begin_era(HELD, first)
    assert due
    assert second.server != first.server


async def test_nothing_is_placed_before_the_recovery(shard: Shard) -> None:
    """The heads that Redis remembers may be too low: a place behind one of them would pass messages over."""
    await another_redis(shard)
    with pytest.raises(Forgetful):
        await shard.place(HELD, [item("user:a", "1")], {"user:a": 0})
    assert not await shard.redis.exists(shard.keys.pending(), shard.keys.seq("user:a"))
    shard.era, _ = await shard.intake.begin_era(HELD, shard.era)
    with pytest.raises(Forgetful):
        await shard.place(HELD, [item("user:a", "1")], {"user:a": 0})


async def test_nothing_is_placed_in_an_era_that_redis_has_forgotten(shard: Shard) -> None:
    """An owner whose connections led elsewhere and back without a word knows a later era than this Redis does."""
    shard.era = Era(shard.era.server, shard.era.number + 1)
    with pytest.raises(Forgetful):
        await shard.place(HELD, [item("user:a", "1")], {"user:a": 0})


async def test_a_head_of_another_era_counts_for_nothing(shard: Shard) -> None:
    """Its target is cold to collect and unknown to edges, but the last seq given is passed all the same."""
    given = 9_007_199_254_000_000
    await shard.count("user:a", given=given, handed=given)
    await another_redis(shard)
    written = await route_set(shard, {"a": True})
    assert written == [0, b""]
    await shard.recover()
    written = await route_set(shard, {"a": True})
    assert written == [1, b""]
    assert await shard.place(HELD, [item("user:a", "1")], {}) == Cold(("user:a",))
    assert await shard.place(HELD, [item("user:a", "1")], {"user:a": 7}) == [Place(7, given + 1)]
    written = await route_set(shard, {"a": True})
    assert written == [1, b"7"]


async def test_edges_are_told_the_era(shard: Shard) -> None:
    """And of none on a Redis that has none yet."""
    assert (await call(shard, {"a": True}, NODE, TTL_MS, {}))[1] == b"%d" % shard.era.number
    await another_redis(shard)
    assert (await call(shard, {"a": True}, NODE, TTL_MS, {}))[1] == b""


async def test_an_appended_head_is_of_the_present_era(shard: Shard) -> None:
    """What recovery appends makes a head that counts, also where the one before was as high."""
    await shard.count("user:a", handed=5)
    await another_redis(shard)
    await shard.recover()
    await shard.intake.append(HELD, lines=[line("user:a", 5)], heads={"user:a": 5}, entry_ids=[], item_ids=[], trim=False)
    assert await shard.counters("user:a") == {"handed": 5}
    written = await route_set(shard, {"a": True})
    assert written == [0, b"5"]
