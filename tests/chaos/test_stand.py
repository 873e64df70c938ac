"""The stand starts, is reached through links alone, starts again what ends, follows the primary, leaves nothing running."""

from __future__ import annotations

from pathlib import Path

import anyio
import psutil
import pytest
from redis.asyncio import Redis

from router.redis_client import OUTAGE, open_redis
from router.settings import Settings
from tests.chaos.scene import until
from tests.chaos.stand import LINKS, Stand, standing
from tests.servers import DebianRedis

pytestmark = pytest.mark.anyio

PATIENCE_S = 30.0
POLL_S = 0.05


async def test_start_and_end(tmp_path: Path) -> None:
    """Everything runs behind its links; what is killed by somebody else is started again; at the end nothing is left."""
    async with standing(Stand(tmp_path)) as stand:
        assert set(stand.links) == set(LINKS)
        assert stand.primary == "redis"
        token = await stand.token("ann")
        assert token
        used = {"collect>redis", "collect-2>store", "dispatch-2>redis", "edge-3>redis", "edge-1>auth", "clients>auth"}
        await until(lambda: all(stand.links[name].carried_bytes for name in used), PATIENCE_S)
        stand.processes["dispatch"].kill()
        await until(lambda: bool(stand.deaths), PATIENCE_S)
        assert [death.process for death in stand.deaths] == ["dispatch"]
        await stand.kill("edge-1")
        await stand.revive("edge-1")
        assert await stand.all_ready() == ()
        assert await stand.accepted() == []
        pids = [process.pid for process in stand.processes.values()]
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.skipif(not DebianRedis.available(), reason="no redis-server here")
async def test_links_follow_the_primary(tmp_path: Path) -> None:
    """When the primary dies, producers reach its replica under the same address, with what the replica had; and back again."""
    async with standing(Stand(tmp_path, failover=True)) as stand, open_redis(Settings(redis_url=stand.redis_url)) as redis:
        await redis.set("kept", "1")
        assert await redis.wait(1, 5_000) == 1
        await stand.kill("redis")
        await until(lambda: stand.switches >= 1, PATIENCE_S)
        await stand.revive("redis")
        assert stand.primary == "redis-2"
        assert await _get(redis, "kept") == b"1"
        assert stand.sentinels is not None
        with anyio.fail_after(PATIENCE_S):
            while not await stand.sentinels.fail_over():  # noqa: ASYNC110 - not before the old primary is a replica
                await anyio.sleep(POLL_S)
        await until(lambda: stand.switches >= 2, PATIENCE_S)
        assert await _get(redis, "kept") == b"1"
        assert await stand.all_ready() == ()


async def _get(redis: Redis, key: str) -> bytes | str | None:
    with anyio.fail_after(PATIENCE_S):
        while True:
            try:
                return await redis.get(key)
            except OUTAGE:
                await anyio.sleep(POLL_S)
