"""node_beat.lua and node_leave.lua: which nodes live, and what is known of them."""

from __future__ import annotations

import pytest
from redis.exceptions import OutOfMemoryError

import lua
from tests.scripts.shard import Shard, now_ms

pytestmark = pytest.mark.anyio

NODE, OTHER = "edge-1.aaaaaa", "edge-2.bbbbbb"
TTL_MS = 7_000
SLACK_MS = 2_000


async def beat(shard: Shard, node: str = NODE, **fields: str) -> int:
    """Call node_beat as `edge.node` does."""
    script = shard.redis.register_script(lua.source("node_beat"))
    flat = [part for pair in fields.items() for part in pair]
    was_live: int = await script(keys=[shard.keys.nodes(), shard.keys.info(node)], args=[node, TTL_MS, *flat])
    return was_live


async def leave(shard: Shard, node: str = NODE) -> int:
    """Call node_leave as `edge.node` does."""
    script = shard.redis.register_script(lua.source("node_leave"))
    was_live: int = await script(keys=[shard.keys.nodes(), shard.keys.info(node), shard.keys.on(node)], args=[node])
    return was_live


async def test_a_beat_says_until_when_a_node_lives_and_what_it_is(shard: Shard) -> None:
    """By the server's clock; what is known of it goes when it does."""
    assert await beat(shard, state="live", sessions="3") == -1
    assert await beat(shard, state="draining", sessions="2") == 1
    score = await shard.redis.zscore(shard.keys.nodes(), NODE)
    assert score is not None
    assert abs(score - now_ms() - TTL_MS) < SLACK_MS
    assert await shard.redis.hgetall(shard.keys.info(NODE)) == {b"state": b"draining", b"sessions": b"2"}
    assert 0 < await shard.redis.pttl(shard.keys.info(NODE)) <= TTL_MS


async def test_lapsed_nodes_stay_for_dispatch(shard: Shard) -> None:
    """Nobody's beat removes them, and one that comes back did not count as alive."""
    await shard.redis.zadd(shard.keys.nodes(), {OTHER: now_ms() - 1, NODE: now_ms() - 1})
    assert await beat(shard) == 0
    assert await beat(shard) == 1
    assert sorted(await shard.redis.zrange(shard.keys.nodes(), 0, -1)) == [NODE.encode(), OTHER.encode()]


async def test_a_node_that_is_gone_learns_of_it(shard: Shard) -> None:
    """It was only frozen, and what was said of it is to be taken back."""
    await beat(shard)
    await shard.redis.zrem(shard.keys.nodes(), NODE)
    assert await beat(shard) == -1
    assert await beat(shard) == 1


async def test_a_leave_keeps_the_node_while_somebody_stands_on_it(shard: Shard) -> None:
    """It should not be; but then dispatch finds them, as if it had died."""
    await beat(shard)
    await shard.redis.hset(shard.keys.on(NODE), "a", "phone")
    assert await leave(shard) == 1
    assert await shard.redis.zscore(shard.keys.nodes(), NODE) <= now_ms()
    await shard.redis.delete(shard.keys.on(NODE))
    assert await leave(shard) == 1
    assert await shard.redis.zcard(shard.keys.nodes()) == 0


async def test_a_leave_takes_the_node_out_and_no_other(shard: Shard) -> None:
    """A second one finds nothing."""
    await beat(shard, state="live")
    await beat(shard, OTHER, state="live")
    assert await leave(shard) == 1
    assert await leave(shard) == 0
    assert await shard.redis.zrange(shard.keys.nodes(), 0, -1) == [OTHER.encode()]
    assert await shard.redis.exists(shard.keys.info(NODE)) == 0
    assert await shard.redis.exists(shard.keys.info(OTHER)) == 1


async def test_a_node_lives_on_when_memory_is_full(real_shard: Shard) -> None:
    """Its heartbeat must not lapse because producers have filled Redis."""
    await real_shard.redis.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        await real_shard.redis.set("x", "y")
    await beat(real_shard, state="live")
    assert await leave(real_shard) == 1
