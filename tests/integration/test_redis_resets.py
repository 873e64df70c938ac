"""router.redis_client: connections that somebody on the way resets."""

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
