"""router.redis_client: connections that somebody on the way resets, and such as are in use when all is cancelled."""

from __future__ import annotations

import anyio
import pytest

from router.redis_client import OUTAGE, open_redis
from router.settings import Settings
from tests.chaos.proxy import Link
from tests.servers import EmbeddedValkey

pytestmark = pytest.mark.anyio


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
    pool = redis.connection_pool
    assert not [one for one in (*pool._available_connections, *pool._in_use_connections) if one.is_connected]
