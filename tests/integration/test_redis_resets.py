"""router.redis_client: connections that somebody on the way resets, and such as are in use when all is cancelled."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

import anyio
import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from router.redis_client import CLOSE_TIMEOUT_S, OUTAGE, open_redis
from router.settings import Settings
from tests.chaos.proxy import Link
from tests.servers import EmbeddedValkey

pytestmark = pytest.mark.anyio

TURNS: Final = 2
"""Of the loop, for which it is held up."""


async def test_reset_while_idle_is_an_outage(valkey_server: EmbeddedValkey) -> None:
    """A connection that was reset while it lay in the pool fails a command at most as an outage does, and not the next one."""
    async with (
        Link("edge>redis", valkey_server.port) as link,
        open_redis(Settings(redis_url=f"redis://127.0.0.1:{link.port}/0")) as redis,
    ):
        await redis.ping()
        link.reset()
        await anyio.wait_all_tasks_blocked()
        await anyio.sleep(0.05)  # the reset is with the kernel; nothing tells when the event loop has seen it
        try:
            await redis.ping()
        except OUTAGE:
            assert await redis.ping()


@pytest.mark.parametrize("how", ["async with", "aclose"])
async def test_whoever_is_cancelled_leaves_no_connection(valkey_server: EmbeddedValkey, how: str) -> None:
    """Cancelled by level, as anyio does, a client closes all the same; the one that waits for a reply too."""
    redis = open_redis(Settings(redis_url=valkey_server.url))
    with anyio.CancelScope() as scope:
        if how == "async with":
            async with redis, anyio.create_task_group() as tasks:
                tasks.start_soon(redis.execute_command, "BLPOP", "nothing comes here", 0)
                await redis.ping()
                scope.cancel()
        else:
            await redis.ping()
            scope.cancel()
            await redis.aclose()
    assert not _connected(redis)


@pytest.mark.parametrize("how", ["async with", "aclose"])
async def test_a_machine_that_is_too_busy_leaves_no_connection(valkey_server: EmbeddedValkey, how: str) -> None:
    """A turn of the loop that takes longer than closing may: the connections are closed all the same, whoever has begun."""
    redis = open_redis(Settings(redis_url=valkey_server.url))
    await redis.ping()
    close = redis.aclose if how == "aclose" else partial(redis.__aexit__, None, None, None)
    if how == "async with":
        await redis.__aenter__()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(close)
        tasks.start_soon(_hold_up)
    assert not _connected(redis)


async def _hold_up() -> None:
    """Take more time than closing may, a share of it in each of some turns."""
    for _ in range(TURNS):
        time.sleep(1.5 * CLOSE_TIMEOUT_S / TURNS)  # noqa: ASYNC251 - as a busy machine would
        await anyio.lowlevel.checkpoint()


def _connected(redis: Redis) -> list[AbstractConnection]:
    pool = redis.connection_pool
    return [one for one in (*pool._available_connections, *pool._in_use_connections) if one.is_connected]
