"""revoke.lua through its adapter: every node is told what is revoked."""

from __future__ import annotations

import json
import time
from typing import Any

import anyio
import pytest
from pymongo.errors import AutoReconnect
from redis.exceptions import ResponseError

from router.revocation import Revocation, of_user
from router.revoke import NotTold, revoke
from tests.scripts.shard import Shard, now_ms

pytestmark = pytest.mark.anyio


class FakeRevoked:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[Revocation] = []
        self.away = False

    async def add(self, one: Revocation) -> None:
        """Keep it."""
        if self.away:
            raise AutoReconnect
        self.written.append(one)


async def test_every_node_is_told_when_it_is_written(shard: Shard) -> None:
    """Those whose heartbeat is late as well, and by `all` those that are not listed yet."""
    keys, store = shard.keys, FakeRevoked()
    revoked: Any = store
    await shard.redis.zadd(keys.nodes(), {"edge-1.a": now_ms() + 5_000, "edge-2.b": now_ms() - 5_000})
    one = of_user("a:b", shard.settings, time.time())
    channels = [keys.node_channel("edge-1.a"), keys.node_channel("edge-2.b"), keys.all_channel()]
    async with shard.listening(*channels) as ear:
        told = await revoke(shard.redis, revoked, shard.settings, one)
        heard = await ear.heard()
    assert time.time() >= one.before
    assert store.written == [one]
    assert sorted(told) == ["edge-1.a", "edge-2.b"]
    assert sorted(channel for channel, _ in heard) == sorted(channels)
    for _, line in heard:
        assert line.startswith("revoked - - - ")
        said = {"id": "user:a:b", "before": one.before, "expires_at": one.expires_at}
        assert json.loads(line.split(" ", 4)[4]) == said


async def test_a_clock_that_is_set_back_holds_up_nobody(shard: Shard) -> None:
    """The second that is waited for is one away, whatever the clock says."""
    revoked: Any = FakeRevoked()
    with anyio.fail_after(10):
        await revoke(shard.redis, revoked, shard.settings, of_user("a", shard.settings, time.time() + 3_600))


async def test_nobody_is_told_of_what_is_not_written(shard: Shard) -> None:
    """Whoever comes would be judged without it."""
    store = FakeRevoked()
    store.away = True
    revoked: Any = store
    async with shard.listening(shard.keys.all_channel()) as ear:
        with pytest.raises(AutoReconnect):
            await revoke(shard.redis, revoked, shard.settings, of_user("a", shard.settings, time.time()))
        assert await ear.heard() == []


async def test_a_broken_list_of_nodes_is_told(shard: Shard) -> None:
    """It is written, and nobody knows who was told."""
    store = FakeRevoked()
    revoked: Any = store
    await shard.redis.set(shard.keys.nodes(), "x")
    with pytest.raises(NotTold, match="it is written") as caught:
        await revoke(shard.redis, revoked, shard.settings, of_user("a", shard.settings, time.time()))
    assert isinstance(caught.value.__cause__, ResponseError)
    assert len(store.written) == 1
