"""router.directory: routes and nodes as people see them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from fakeredis import FakeAsyncRedis

from router.directory import read_nodes, read_routes
from router.keys import Keys
from router.settings import Settings
from router.shards import shard_of_id

pytestmark = pytest.mark.anyio

SETTINGS: Final = Settings(shards=2)
SHARDS: Final = [Keys("push", shard) for shard in range(2)]
ALICE: Final = SHARDS[shard_of_id("alice", 2)]


@pytest.fixture
async def redis() -> AsyncIterator[FakeAsyncRedis]:
    """An empty Redis."""
    async with FakeAsyncRedis() as client:
        yield client


def _in_ms(ms: int) -> int:
    return time.time_ns() // 1_000_000 + ms


async def test_user_without_routes_has_none(redis: FakeAsyncRedis) -> None:
    """No key, no route."""
    assert await read_routes(redis, SETTINGS, "alice") == []


async def test_routes_tell_time_left_and_whether_the_node_lives(redis: FakeAsyncRedis) -> None:
    """The freshest comes first; a lapsed route and a dead node are told as such."""
    await redis.zadd(ALICE.route("alice"), {"edge-1.a": _in_ms(60_000), "edge-2.b": _in_ms(-5_000)})
    await redis.zadd(ALICE.nodes(), {"edge-1.a": _in_ms(5_000), "edge-2.b": _in_ms(-1)})
    first, second = await read_routes(redis, SETTINGS, "alice")
    assert (first.node, first.node_alive) == ("edge-1.a", True)
    assert 50_000 < first.left_ms <= 60_000
    assert (second.node, second.node_alive) == ("edge-2.b", False)
    assert second.left_ms <= -5_000


async def test_node_tells_what_its_heartbeat_says(redis: FakeAsyncRedis) -> None:
    """Address, version, state, sessions and age come from the description."""
    started = _in_ms(-90_000)
    info: dict[Any, Any] = {"address": "ws://h:1", "version": "0.1.0", "started": started, "sessions": 3, "state": "live"}
    for keys in SHARDS:
        await redis.zadd(keys.nodes(), {"edge-1.a": _in_ms(5_000)})
        await redis.hset(keys.info("edge-1.a"), mapping=info)
    (node,) = await read_nodes(redis, SETTINGS)
    assert (node.id, node.alive, node.address, node.version) == ("edge-1.a", True, "ws://h:1", "0.1.0")
    assert (node.sessions, node.state) == (3, "live")
    assert node.age_s is not None
    assert 90 <= node.age_s < 100


async def test_node_that_a_shard_does_not_hear_is_not_alive(redis: FakeAsyncRedis) -> None:
    """Half alive counts as dead: that shard's users are not reached."""
    await redis.zadd(SHARDS[0].nodes(), {"edge-1.a": _in_ms(5_000)})
    (node,) = await read_nodes(redis, SETTINGS)
    assert not node.alive
    assert (node.address, node.sessions, node.age_s) == ("", None, None)


async def test_nodes_come_by_id(redis: FakeAsyncRedis) -> None:
    """Whatever shard lists them."""
    await redis.zadd(SHARDS[0].nodes(), {"edge-2.b": _in_ms(1_000)})
    await redis.zadd(SHARDS[1].nodes(), {"edge-1.a": _in_ms(1_000)})
    assert [node.id for node in await read_nodes(redis, SETTINGS)] == ["edge-1.a", "edge-2.b"]
