"""router.collect while MongoDB or Redis is away: it waits, says so once, loses nothing, and goes on by itself."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest
import structlog

from tests.collecting import until
from tests.integration.site import open_site
from tests.servers import EmbeddedValkey, Store

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("how", ["paused", "killed"])
async def test_mongodb_is_away_for_a_while(valkey_server: EmbeddedValkey, tmp_path: Path, how: str) -> None:
    """Nothing is acknowledged meanwhile, each change of state is said once, and it goes on by itself."""
    async with AsyncExitStack() as stack:
        store = stack.enter_context(Store(tmp_path / "store"))
        site = await open_site(stack, valkey_server.url, store.url)
        await site.append(to="user:a", text="0", id="m0")
        await site.settle()
        with structlog.testing.capture_logs() as logs, anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(site.owner().run, await site.lease())
                store.pause() if how == "paused" else store.kill()
                for number in range(1, 6):
                    await site.append(to="user:a", text=str(number), id=f"m{number}")
                await until(lambda: bool(site.health.reasons))
                assert site.health.reasons.keys() == {"mongo"}
                await anyio.sleep(3 * site.settings.backoff_max_ms / 1000)
                assert await site.redis.xlen(site.keys(0).intake()) == 5
                assert len(await site.lines()) == 1
                store.resume() if how == "paused" else store.start()
                await site.settled(0)
                await until(lambda: not site.health.reasons)
                tasks.cancel_scope.cancel()
        changes = [(entry["event"], entry["server"]) for entry in logs if entry["event"].startswith("outage_")]
        assert changes == [("outage_began", "mongo"), ("outage_ended", "mongo")]
        await site.is_kept()


async def test_redis_is_away_for_a_while(store_server: Store, tmp_path: Path) -> None:
    """Redis is killed and started anew on its data: the owner waits, says so once, and loses nothing."""
    async with AsyncExitStack() as stack:
        valkey = stack.enter_context(EmbeddedValkey(tmp_path / "valkey"))
        site = await open_site(stack, valkey.url, store_server.url)
        await site.append(to="user:a", text="0", id="m0")
        with structlog.testing.capture_logs() as logs, anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(site.owner().run, await site.lease())
                await site.settled(0)
                await site.append(to="user:a", text="1", id="m1")
                valkey.kill()
                await until(lambda: bool(site.health.reasons))
                valkey.start()
                await site.append(to="user:a", text="2", id="m2")
                await site.settled(0)
                await until(lambda: not site.health.reasons)
                tasks.cancel_scope.cancel()
        changes = [(entry["event"], entry["server"]) for entry in logs if entry["event"].startswith("outage_")]
        assert changes == [("outage_began", "redis"), ("outage_ended", "redis")]
        await site.is_kept()
