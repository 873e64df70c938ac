"""cursor_set.lua and router.cursor_cache: the copy of cursors in Redis, which only ever moves forward."""

from __future__ import annotations

import pytest
from redis.exceptions import ReadOnlyError, ResponseError

import lua
from router.cursor_cache import CursorCache
from router.cursors import CursorKey
from tests.scripts.shard import Shard

pytestmark = pytest.mark.anyio

SEQ = 1_732_262_400_123_456
PHONE = CursorKey("alice", "phone", "user:alice")
TABLET = CursorKey("alice", "tablet", "user:alice")
BOB = CursorKey("bob", "phone", "user:bob")


def cache_of(shard: Shard, **changes: object) -> CursorCache:
    """Return the adapter."""
    return CursorCache(shard.redis, shard.settings.model_copy(update=changes))


async def test_a_cursor_moves_forward_only(shard: Shard) -> None:
    """By one of sixteen digits as by a thousand; a lower one changes nothing, and what is not there is not found."""
    cache = cache_of(shard)
    for seq, stands in ((SEQ, SEQ), (SEQ + 1, SEQ + 1), (SEQ, SEQ + 1), (999, SEQ + 1)):
        await cache.advance({PHONE: seq})
        assert await cache.find([PHONE, TABLET, BOB]) == {PHONE: stands}
    assert await shard.redis.hgetall(shard.keys.ack("alice")) == {b"phone user:alice": str(SEQ + 1).encode()}


async def test_many_cursors_in_one_call(shard: Shard) -> None:
    """Those of one user share a hash, and stand beside each other."""
    cache, seqs = cache_of(shard), {PHONE: SEQ, BOB: 0, TABLET: SEQ + 5}
    await cache.advance(seqs)
    assert await cache.find(list(seqs)) == seqs
    assert await cache.find([]) == {}


async def test_it_expires_after_the_last_write(shard: Shard) -> None:
    """A write of what stands there is one, a look is none."""
    await cache_of(shard, ack_idle_s=100.0).advance({PHONE: SEQ})
    assert 99_000 < await shard.redis.pttl(shard.keys.ack("alice")) <= 100_000
    longer = cache_of(shard, ack_idle_s=200.0)
    await longer.find([PHONE])
    assert await shard.redis.pttl(shard.keys.ack("alice")) <= 100_000
    await longer.advance({PHONE: SEQ})
    assert await shard.redis.pttl(shard.keys.ack("alice")) > 199_000


async def test_a_key_of_another_type_is_its_users_own_trouble(shard: Shard) -> None:
    """It is left as it is, the others are written, and its cursor is asked of MongoDB."""
    await shard.redis.set(shard.keys.ack("alice"), "x")
    cache = cache_of(shard)
    await cache.advance({PHONE: SEQ, BOB: SEQ})
    assert await cache.find([PHONE, BOB]) == {BOB: SEQ}


async def test_a_field_that_is_no_seq_is_written_over(shard: Shard) -> None:
    """Whoever wrote it."""
    await shard.redis.hset(shard.keys.ack("alice"), "phone user:alice", "abc")
    cache = cache_of(shard)
    assert await cache.find([PHONE]) == {}
    await cache.advance({PHONE: SEQ})
    assert await cache.find([PHONE]) == {PHONE: SEQ}


async def test_each_user_in_the_shard_that_is_the_users(shard: Shard) -> None:
    """As the user's route and counters."""
    cache = CursorCache(shard.redis, shard.settings.model_copy(update={"shards": 7}))
    seqs = {CursorKey(f"u{n}", "d", f"user:u{n}"): n for n in range(30)}
    await cache.advance(seqs)
    assert await cache.find(list(seqs)) == seqs
    assert len({key.split(b"}")[0] for key in await shard.redis.keys("push:*:ack:*")}) > 1


async def test_what_redis_has_against_the_caller_ends_the_call(real_shard: Shard) -> None:
    """A replica refuses every write, and keeps its name."""
    await real_shard.redis.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(ReadOnlyError):
            await cache_of(real_shard).advance({PHONE: SEQ})
    finally:
        await real_shard.redis.replicaof("NO", "ONE")


async def test_numbers_that_do_not_fit_are_refused(shard: Shard) -> None:
    """Nothing is written then."""
    script = shard.redis.register_script(lua.source("cursor_set"))
    with pytest.raises(ResponseError, match="CURSORS"):
        await script(keys=[shard.keys.ack("alice")], args=[1_000, "phone user:alice"])
    assert not await shard.redis.exists(shard.keys.ack("alice"))
