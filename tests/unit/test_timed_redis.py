"""router.timed_redis: what a call to Redis counts as."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

import lua
from router.redis_client import open_redis
from router.settings import Settings
from router.timed_redis import operation_of

NOWHERE = Settings(redis_url="redis://127.0.0.1:1/0")


def _counted(operation: str) -> float:
    return REGISTRY.get_sample_value("pushway_redis_seconds_count", {"operation": operation}) or 0.0


@pytest.mark.parametrize("name", lua.names())
def test_script_counts_under_its_file(name: str) -> None:
    """A script is known by the digest that the driver calls it by."""
    script = Redis().register_script(lua.source(name))
    assert operation_of("EVALSHA", script.sha) == name


def test_command_counts_under_its_first_word() -> None:
    """Sub-commands are no labels of their own, and a script of nobody's is EVALSHA."""
    assert operation_of("XINFO STREAM", "") == "xinfo"
    assert operation_of("EVALSHA", "0" * 40) == "evalsha"


@pytest.mark.anyio
async def test_failed_calls_count_too() -> None:
    """A Redis that is away is seen in the figures of commands, scripts and pipelines."""
    before = [_counted(operation) for operation in ("get", "dispatch", "pipeline")]
    async with open_redis(NOWHERE) as redis:
        with pytest.raises(RedisConnectionError):
            await redis.get("a")
        with pytest.raises(RedisConnectionError):
            await redis.register_script(lua.source("dispatch"))()
        async with redis.pipeline(transaction=False) as pipe:
            pipe.get("a")
            with pytest.raises(RedisConnectionError):
                await pipe.execute()
    assert [_counted(operation) for operation in ("get", "dispatch", "pipeline")] == [count + 1 for count in before]


@pytest.mark.anyio
async def test_waiting_for_news_is_not_timed() -> None:
    """XREAD takes as long as nothing comes."""
    async with open_redis(NOWHERE) as redis:
        with pytest.raises(RedisConnectionError):
            await redis.xread({"push:{0}:in": "$"}, block=1)
    assert _counted("xread") == 0.0
