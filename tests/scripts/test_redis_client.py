"""router.redis_client: which Redis is fit for the work. Its version and policy are asked for by INFO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from router.errors import SetupError
from router.redis_client import OUTAGE, check_redis, open_redis
from router.settings import Settings
from tests.scripts.shard import Shard

pytestmark = pytest.mark.anyio


class Answering:
    """A Redis that tells something else of itself."""

    def __init__(self, redis: Any, **info: str) -> None:  # noqa: ANN401 - RESP2 replies
        self._redis = redis
        self._info = info

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a client has
        return getattr(self._redis, name)

    async def info(self) -> dict[str, str]:
        """Answer INFO."""
        return self._info


async def _check(shard: Shard, settings: Settings | None = None, /, **info: str) -> None:
    client: Any = Answering(shard.redis, **info) if info else shard.redis
    await check_redis(client, settings or Settings())


async def test_fit_server_passes_again_and_again(real_shard: Shard) -> None:
    """The first check writes what the prefix is set up for, the others agree with it."""
    await _check(real_shard)
    await _check(real_shard)
    assert await real_shard.redis.hgetall("push:config") == {b"shards": b"1", b"schema": b"1"}


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_server_that_evicts_is_refused(real_shard: Shard, policy: str) -> None:
    """The error says which policy stands there and which is needed."""
    await real_shard.redis.config_set("maxmemory-policy", policy)
    try:
        with pytest.raises(SetupError, match=rf"maxmemory-policy of 127.0.0.1:6390.* is {policy}: .*noeviction"):
            await _check(real_shard)
    finally:
        await real_shard.redis.config_set("maxmemory-policy", "noeviction")


async def test_prefix_set_up_for_other_shards_is_refused(shard: Shard) -> None:
    """Messages would go where nobody looks; the setting that stands there is left as it is."""
    await _check(shard, Settings(shards=2), redis_version="7.0.0")
    with pytest.raises(SetupError, match="push:config says shards=2, this process is set to shards=3"):
        await _check(shard, Settings(shards=3), redis_version="7.0.0")
    await _check(shard, Settings(shards=3, prefix="other"), redis_version="7.0.0")
    assert await shard.redis.hget("push:config", "shards") == b"2"


@pytest.mark.parametrize(("schema", "fits"), [("0", True), ("1", True), ("2", False)])
async def test_schema_of_a_newer_version_is_refused(shard: Shard, schema: str, fits: bool) -> None:
    """This version and the one before run together."""
    await shard.redis.hset("push:config", mapping={"shards": "1", "schema": schema})
    if fits:
        await _check(shard, redis_version="7.0.0")
    else:
        with pytest.raises(SetupError, match="schema=2; this version works with 0 and 1"):
            await _check(shard, redis_version="7.0.0")


@pytest.mark.parametrize(
    ("info", "fits"),
    [
        ({"redis_version": "6.2.14"}, False),
        ({"redis_version": "7.0.0"}, True),
        ({"redis_version": "10.0.1"}, True),
        ({"redis_version": "7.2.4", "valkey_version": "7.2.4"}, True),
        ({"redis_version": "7.2.4", "valkey_version": "7.1.0"}, False),
        ({"redis_version": "7.2.4", "valkey_version": "10.0.0"}, True),
    ],
)
async def test_too_old_a_server_is_refused(shard: Shard, info: dict[str, str], fits: bool) -> None:
    """Redis from 7.0, Valkey from 7.2 by its own number; versions are compared as numbers."""
    if fits:
        await _check(shard, **info)
    else:
        with pytest.raises(SetupError, match="is too old"):
            await _check(shard, **info)


async def test_unix_socket_is_an_address(tmp_path: Path) -> None:
    """Where nobody listens, that is an outage like any other, and no mistake of the settings."""
    async with open_redis(Settings(redis_url=f"unix://{tmp_path}/redis.sock")) as redis:
        with pytest.raises(OUTAGE):
            await redis.get("a")
