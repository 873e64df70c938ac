"""The whole system on a primary that three sentinels watch: it finds the next one by itself, and nothing stored is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from redis.exceptions import RedisError

from tests.chaos.sentinel import ReplicatedRedis, Sentinel, Sentinels, replicated
from tests.e2e.flowing import QUICK, flowing
from tests.servers import DebianRedis, wait_until
from tests.stack import Stack

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(not DebianRedis.available(), reason="no redis-server here")]


@dataclass
class Site:
    """Two servers, their sentinels, and the system on them."""

    servers: tuple[ReplicatedRedis, ReplicatedRedis]
    sentinels: tuple[Sentinel, ...]
    stack: Stack

    async def primary(self, but: ReplicatedRedis | None = None) -> ReplicatedRedis:
        """Return the primary, once the sentinels agree on one that is not `but`."""
        with anyio.fail_after(30):
            while True:
                port = await Sentinels(self.sentinels).primary_port()
                found = next((server for server in self.servers if server is not but and server.port == port), None)
                if found is not None:
                    return found
                await anyio.sleep(0.05)

    def whole(self) -> None:
        """Return when the replica follows and the sentinels know of it."""
        wait_until(lambda: all(sentinel.answers() for sentinel in self.sentinels), "the sentinels know of all")
        wait_until(lambda: any(map(_follows, self.servers)), "the replica follows")


def _role(server: ReplicatedRedis) -> dict[str, str]:
    with server.client() as client:
        return {name: str(value) for name, value in client.info("replication").items()}


def _follows(server: ReplicatedRedis) -> bool:
    try:
        return _role(server).get("master_link_status") == "up"
    except RedisError:  # who becomes a replica closes its connections
        return False


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Yield the whole system with two edges and two shards."""
    primary, replica, sentinels = replicated(tmp_path)
    with primary, replica:
        try:
            for sentinel in sentinels:
                sentinel.launch()
            for sentinel in sentinels:
                sentinel.wait_ready()
            hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
            url = f"redis://{hosts}/0?sentinel=pushway"
            with Stack(tmp_path / "stack", redis_url=url, settings={**QUICK, "shards": 2}) as stack:
                yield Site((primary, replica), sentinels, stack)
        finally:
            for sentinel in sentinels:
                if sentinel.launched:
                    sentinel.kill()


async def test_dead_primary(site: Site) -> None:
    """It is killed, and comes back as a replica."""
    async with flowing(site.stack, "dead") as traffic:
        primary = await site.primary()
        primary.kill()
        await site.primary(but=primary)
        await traffic.flows()
        primary.start()
        await anyio.to_thread.run_sync(site.whole)


async def test_agreed_failover_with_a_sentinel_away(site: Site) -> None:
    """An operator asks for it; one of the sentinels that the address names does not answer."""
    async with flowing(site.stack, "agreed") as traffic:
        await anyio.to_thread.run_sync(site.whole)
        primary = await site.primary()
        site.sentinels[-1].kill()
        assert await Sentinels(site.sentinels).fail_over()
        await site.primary(but=primary)
        await traffic.flows()


async def test_frozen_primary(site: Site) -> None:
    """It stands still until another has taken its place, and goes on as if nothing had been."""
    async with flowing(site.stack, "frozen") as traffic:
        primary = await site.primary()
        primary.pause()
        try:
            await site.primary(but=primary)
            await traffic.flows()
        finally:
            primary.resume()
        await anyio.to_thread.run_sync(site.whole)
        await traffic.flows()
