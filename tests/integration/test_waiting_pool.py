"""router.waiting_pool below a client: more calls at once than there are connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import anyio
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from router.timed_redis import TimedRedis
from router.waiting_pool import WaitingPool
from tests.servers import EmbeddedValkey

pytestmark = pytest.mark.anyio

CONNECTIONS: Final = 3
SOON_S: Final = 20


@pytest.fixture
async def redis(valkey_server: EmbeddedValkey) -> AsyncIterator[Any]:
    """Yield a client of few connections."""
    pool = WaitingPool.from_url(valkey_server.url, max_connections=CONNECTIONS, wait_timeout_s=SOON_S)
    async with TimedRedis.from_pool(pool) as client:
        yield client


async def _calls(redis: Any, count: int) -> list[int]:  # noqa: ANN401 - the driver's replies are of any type
    """Return the replies of so many calls at once."""
    replies: list[int] = []

    async def call(number: int) -> None:
        replies.append(int(await redis.echo(number)))

    with anyio.fail_after(SOON_S):
        async with anyio.create_task_group() as tasks:
            for number in range(count):
                tasks.start_soon(call, number)
    return replies


async def test_more_calls_than_connections(redis: Any) -> None:  # noqa: ANN401 - as above
    """All are answered, over no more connections than there may be."""
    assert sorted(await _calls(redis, 200)) == list(range(200))
    assert len(await redis.client_list()) == CONNECTIONS


async def test_none_is_free_for_long(redis: Any) -> None:  # noqa: ANN401 - as above
    """Whoever waits too long is told why."""
    redis.connection_pool.wait_timeout_s = 0.05
    async with anyio.create_task_group() as tasks:
        for _ in range(CONNECTIONS):
            tasks.start_soon(redis.execute_command, "BLPOP", "nothing comes here", 0)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(RedisConnectionError, match=r"none of 3 connections was free in 0\.05 s"):
            await redis.ping()
        tasks.cancel_scope.cancel()


async def test_cancelled_callers_take_no_connection_along(redis: Any) -> None:  # noqa: ANN401 - as above
    """Neither those who have one nor those who wait: there are as many as before."""
    for _ in range(4):
        async with anyio.create_task_group() as tasks:
            for _ in range(4 * CONNECTIONS):
                tasks.start_soon(redis.execute_command, "BLPOP", "nothing comes here", 0)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    assert sorted(await _calls(redis, 20)) == list(range(20))


async def test_server_that_is_away_takes_no_connection_along(redis: Any) -> None:  # noqa: ANN401 - as above
    """Each call says so at once, however many there were before."""
    port = redis.connection_pool.connection_kwargs["port"]
    redis.connection_pool.connection_kwargs["port"] = 1
    for _ in range(3 * CONNECTIONS):
        with pytest.raises(RedisConnectionError, match="connecting to"):
            await redis.ping()
    redis.connection_pool.connection_kwargs["port"] = port
    redis.connection_pool.reset()
    assert sorted(await _calls(redis, 20)) == list(range(20))
