"""edge.node: the node id, and what a node notices of its heartbeat."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from fakeredis import FakeAsyncRedis
from redis.exceptions import ConnectionError as RedisConnectionError

from edge.node import Node, new_node_id
from router.ops import Health
from router.outage import Outages
from router.settings import Settings
from router.targets import check_id

SETTINGS = Settings(shards=2, backoff_min_ms=1, backoff_max_ms=2)
PROMPT_S = 20.0


def test_a_node_id_is_new_at_every_start() -> None:
    """The name stays, the incarnation does not, and the whole keeps the rule for ids."""
    ids = {new_node_id("edge-1") for _ in range(1_000)}
    assert len(ids) == 1_000
    for node in ids:
        assert check_id(node, "node").startswith("edge-1.")


class Site:
    """A node, and the shards in which it was forgotten."""

    def __init__(self) -> None:
        self.redis: Any = FakeAsyncRedis()
        self.forgotten: list[int] = []
        self.node = Node(self.redis, SETTINGS, lambda: 0, Outages(Health(), SETTINGS), self.forgotten.append)

    async def beat(self) -> None:
        """Have it beat now, and return when it has."""
        tried = self.node._groups[0].tried
        self.node.beat_soon()
        with anyio.fail_after(PROMPT_S):
            await tried.wait()


@asynccontextmanager
async def beating() -> AsyncIterator[Site]:
    """Yield a node that has beaten once."""
    site = Site()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(site.node.run)
        with anyio.fail_after(PROMPT_S):
            await site.node.tried()
        yield site
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_node_notices_where_it_was_forgotten() -> None:
    """In which shard, and neither at its start nor where its heartbeat has only lapsed."""
    async with beating() as site:
        await site.redis.zadd("push:{0}:nodes", {site.node.id: 1})
        await site.beat()
        assert site.forgotten == []
        await site.redis.delete("push:{1}:nodes")
        await site.beat()
        await site.beat()
        assert site.forgotten == [1]


@pytest.mark.anyio
async def test_who_writes_routes_waits_after_a_standstill(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the next heartbeat, or that it was tried in vain; otherwise for nothing."""
    async with beating() as site:
        with anyio.fail_after(PROMPT_S):
            await site.node.tried()
        site.node._groups[0].tried_at_s -= SETTINGS.node_ttl_ms / 1000
        with anyio.move_on_after(0.05) as scope:
            await site.node.tried()
        assert scope.cancelled_caught

        async def fail(*_: object) -> None:
            raise RedisConnectionError

        monkeypatch.setattr(site.node, "_beat", fail)
        site.node.beat_soon()
        with anyio.fail_after(PROMPT_S):
            await site.node.tried()
