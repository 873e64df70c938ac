"""The whole system on a Redis Cluster of four shards: nothing stored is lost, and no edge stays deaf, whatever happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import pytest

from router.cluster_redis import slot_of
from router.shards import shard_of_id
from tests.e2e.audience import Audience, Producer
from tests.e2e.command_line import run
from tests.e2e.flowing import QUICK, flowing, users_of
from tests.redis_cluster import ClusterServers
from tests.servers import DebianRedis
from tests.stack import Stack

pytestmark = pytest.mark.anyio

SHARDS: Final = 4


@dataclass
class Site:
    """A cluster, and the system on it."""

    cluster: ClusterServers
    stack: Stack

    def slot(self, user: str) -> int:
        """Return where a user's shard is."""
        return slot_of(f"push:{{{shard_of_id(user, SHARDS)}}}:in")


@pytest.fixture(scope="module", params=["valkey", "redis"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Yield the whole system with two edges, on a cluster of each kind."""
    if request.param == "redis" and not DebianRedis.available():
        pytest.skip("no redis-server here")
    folder: Path = tmp_path_factory.mktemp("site")
    with (
        ClusterServers(folder / "cluster", request.param) as cluster,
        Stack(folder / "stack", redis_url=cluster.url, settings={**QUICK, "shards": SHARDS}) as stack,
    ):
        yield Site(cluster, stack)


async def test_main_job(site: Site) -> None:
    """All that is appended comes: to users of every shard, to a topic and to everybody."""
    users = users_of("main", SHARDS)
    async with Audience(site.stack) as audience:
        seats = [await audience.join(user, n % 2) for n, user in enumerate(users)]
        producer = Producer(site.stack, tuple(users))
        await producer.send(80)
        with site.stack.redis_client() as redis:
            redis.xadd("push:{1}:in", {"to": "all", "text": "to all"})
            for user in users:
                redis.xadd("push:{2}:fast", {"to": f"user:{user}", "text": "fast"})
        await audience.until(lambda: all(len(seat.messages) == 12 for seat in seats))
    for seat in seats:
        numbers = [body["n"] for body in seat.bodies if isinstance(body, dict)]
        assert numbers == producer.sent[seat.user]
        assert {"to all", "fast"} <= {body for body in seat.bodies if isinstance(body, str)}


async def test_agreed_failover(site: Site) -> None:
    """A primary hands over to its replica: sessions stay, and what is stored comes."""
    async with flowing(site.stack, "agreed") as traffic:
        await anyio.to_thread.run_sync(site.cluster.fail_over, site.slot(traffic.seats[0].user))
    await anyio.to_thread.run_sync(site.cluster.wait_whole)


async def test_dead_primary(site: Site) -> None:
    """A primary is killed: its shards stand still until the replica has taken over, and the others do not."""
    async with flowing(site.stack, "dead") as traffic:
        slot = site.slot(traffic.seats[0].user)
        primary = await anyio.to_thread.run_sync(site.cluster.primary_of, slot)
        spared = [seat for seat in traffic.seats if site.cluster.primary_of(site.slot(seat.user)) is not primary]
        replica = await anyio.to_thread.run_sync(site.cluster.replica_of, primary)
        primary.kill()
        await anyio.to_thread.run_sync(site.cluster.wait_primary, slot, replica)
        await traffic.flows()
        primary.start()
        assert spared
    await anyio.to_thread.run_sync(site.cluster.wait_whole)


async def test_slot_moves_key_by_key(site: Site) -> None:
    """A shard's slot goes to another primary as redis-cli moves it, while messages flow."""
    async with flowing(site.stack, "moved") as traffic:
        await anyio.to_thread.run_sync(_move, site, site.slot(traffic.seats[-1].user), False)


async def test_slot_moves_at_once(site: Site) -> None:
    """The same as one step, where the server can (Valkey 9)."""
    if isinstance(site.cluster.servers[0], DebianRedis):
        pytest.skip("this Redis cannot")
    async with flowing(site.stack, "atomic") as traffic:
        await anyio.to_thread.run_sync(_move, site, site.slot(traffic.seats[2].user), True)


def _move(site: Site, slot: int, at_once: bool) -> None:
    to = site.cluster.another_primary(site.cluster.primary_of(slot))
    (site.cluster.move_at_once if at_once else site.cluster.move)(slot, to)


async def test_all_of_it_restarts(site: Site) -> None:
    """Every server ends and comes back with what it had written."""
    async with flowing(site.stack, "restart") as traffic:
        site.cluster.restart()
        await anyio.to_thread.run_sync(site.cluster.wait_whole)
        await traffic.flows()


async def test_commands(site: Site) -> None:
    """What people type works on a cluster: each finds what it asks for, on whichever primary it is."""
    ann = "commands-ann"

    async def typed(*words: str) -> str:
        done = await anyio.to_thread.run_sync(lambda: run(site.stack, *words))
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    async with Audience(site.stack) as audience:
        seat = await audience.join(ann, 0)
        assert "edge-1" in await typed("nodes")
        assert "edge-1" in await typed("route", ann)
        await typed("send", f"user:{ann}", '{"n":1}')
        await audience.until(lambda: bool(seat.messages))
        tapped = await typed("tap", seat.nodes[0], "--probes", "--count", "8", "--json")
        assert len(tapped.splitlines()) == 8, tapped
        found = json.loads(await typed("doctor", "--json"))
        assert "error" not in json.dumps(found)
        assert ann in await typed("presence", ann)
        assert await typed("dead", "list", "--json")
    await typed("forget", ann, "--yes")
