"""The suite runs on a fake and on two real servers; a test that asks for `real_shard` runs on the real ones only."""

from __future__ import annotations

from collections.abc import AsyncIterator

import fakeredis
import pytest
from redis.asyncio import Redis

from router.redis_client import open_redis
from router.settings import Settings
from tests.scripts.shard import Shard
from tests.servers import DebianRedis, EmbeddedValkey

FAKE = "fakeredis"
REAL = ("valkey", "redis")


def real_server(request: pytest.FixtureRequest, kind: str) -> EmbeddedValkey | DebianRedis:
    """Return the run's server of this kind, started when it is first asked for."""
    server: EmbeddedValkey | DebianRedis = request.getfixturevalue(f"{kind}_server")
    return server


def _open(request: pytest.FixtureRequest, kind: str) -> Redis:
    if kind == FAKE:
        fake: Redis = fakeredis.FakeAsyncRedis(protocol=2, version=(7,), server=fakeredis.FakeServer(version=(7,)))
        return fake
    return open_redis(Settings(redis_url=real_server(request, kind).url))


async def _shard(redis: Redis) -> Shard:
    await redis.flushall()
    shard = Shard(redis, Settings())
    await shard.prepare()
    return shard


@pytest.fixture(params=[FAKE, *REAL])
async def shard(request: pytest.FixtureRequest) -> AsyncIterator[Shard]:
    """Yield an empty shard on each of the servers."""
    async with _open(request, request.param) as redis:
        yield await _shard(redis)


@pytest.fixture(params=REAL)
async def real_shard(request: pytest.FixtureRequest) -> AsyncIterator[Shard]:
    """Yield an empty shard on each of the real servers."""
    async with _open(request, request.param) as redis:
        yield await _shard(redis)
        await redis.config_set("maxmemory", 0)
