"""kick.lua through its adapter: the nodes of a user are told to close the user's sessions."""

from __future__ import annotations

import json

import pytest
from redis.exceptions import ResponseError

from router.kick import Kick, kick
from tests.scripts.shard import Shard, now_ms

pytestmark = pytest.mark.anyio


async def test_every_node_of_the_user_is_told(shard: Shard) -> None:
    """Once each, and nobody else; a lapsed route is no route. The routes stay: it is the edges that remove them."""
    await shard.route("a:b", "edge-1.a", "edge-2.b")
    await shard.route("c", "edge-3.c")
    await shard.redis.zadd(shard.keys.route("a:b"), {"edge-4.d": now_ms() - 1})
    channels = [shard.keys.node_channel(node) for node in ("edge-1.a", "edge-2.b", "edge-3.c", "edge-4.d")]
    async with shard.listening(*channels) as ear:
        told = await kick(shard.redis, shard.settings, Kick("a:b", 4711, 'so "it"\nis', device="phone"))
        heard = await ear.heard()
    assert sorted(told) == ["edge-1.a", "edge-2.b"]
    assert sorted(channel for channel, _ in heard) == channels[:2]
    for _, line in heard:
        assert line.startswith("kicked - - - ")
        assert "\n" not in line
        assert json.loads(line.split(" ", 4)[4]) == {"user": "a:b", "code": 4711, "reason": 'so "it"\nis', "device": "phone"}
    assert await shard.nodes_of("a:b") == ["edge-1.a", "edge-2.b", "edge-4.d"]


async def test_nobody_is_told_of_a_user_without_routes(shard: Shard) -> None:
    """That is no error."""
    assert await kick(shard.redis, shard.settings, Kick("a", 4502, "")) == []


async def test_a_broken_route_is_told(shard: Shard) -> None:
    """A key of another type is no answer."""
    await shard.redis.set(shard.keys.route("a"), "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await kick(shard.redis, shard.settings, Kick("a", 4502, ""))
