"""The whole system on a Redis Cluster of four shards: nothing stored is lost, and no edge stays deaf, whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio
import pytest

from router.cluster_redis import slot_of
from router.shards import shard_of_id
from tests.e2e.audience import Audience, Producer, Seat, in_order_and_once
from tests.redis_cluster import ClusterServers
from tests.servers import DebianRedis
from tests.stack import Stack

pytestmark = pytest.mark.anyio

SHARDS: Final = 4
PAUSE_S: Final = 0.01
QUICK: Final = {
    "shards": SHARDS,
    "redis_timeout_s": 1.0,
    "backoff_max_ms": 250,
    "lease_ms": 2_000,
    "node_ttl_ms": 3_000,
    "probe_quiet_ms": 500,
    "probe_timeout_ms": 1_000,
}


@dataclass
class Site:
    """A cluster, and the system on it."""

    cluster: ClusterServers
    stack: Stack

    def slot(self, user: str) -> int:
        """Return where a user's shard is."""
        return slot_of(f"push:{{{shard_of_id(user, SHARDS)}}}:in")

    def stored(self, users: list[str]) -> dict[str, set[int]]:
        """Return user → the seqs that have been stored for them."""
        with self.stack.mongo_client() as mongo:
            inbox = mongo[self.stack.settings.mongo_database]["inbox"]
            found: dict[str, set[int]] = {user: set() for user in users}
            for one in inbox.find({"target": {"$in": [f"user:{user}" for user in users]}}, ["target", "seq"]):
                found[one["target"].removeprefix("user:")].add(int(one["seq"]))
            return found


@dataclass
class Traffic:
    """What goes on while something happens.

    Attributes:
        seats: a session of each user.
    """

    site: Site
    audience: Audience
    producer: Producer
    seats: list[Seat] = field(default_factory=list)

    async def flows(self) -> None:
        """Return when each session has had something that was appended from now on."""
        first = self.producer._count
        await self.audience.until(lambda: all(any(body["n"] >= first for body in seat.bodies[-50:]) for seat in self.seats))

    def longest_silence_s(self) -> float:
        """Return the longest time in which a session heard nothing."""
        return max(b - a for seat in self.seats for a, b in zip(seat.came_s, seat.came_s[1:], strict=False))


@pytest.fixture(scope="module", params=["valkey", "redis"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Yield the whole system with two edges, on a cluster of each kind."""
    if request.param == "redis" and not DebianRedis.available():
        pytest.skip("no redis-server here")
    folder: Path = tmp_path_factory.mktemp("site")
    with (
        ClusterServers(folder / "cluster", request.param) as cluster,
        Stack(folder / "stack", redis_url=cluster.url, settings=QUICK) as stack,
    ):
        yield Site(cluster, stack)


def _users(name: str) -> list[str]:
    """Return two users of each shard."""
    found: dict[int, list[str]] = {}
    for n in range(200):
        some = found.setdefault(shard_of_id(f"{name}-{n}", SHARDS), [])
        if len(some) < 2:
            some.append(f"{name}-{n}")
    return [user for shard in sorted(found) for user in found[shard]]


@asynccontextmanager
async def flowing(site: Site, name: str) -> AsyncIterator[Traffic]:
    """Have messages flow within the block; behind it, all that was stored must have come, in order and once."""
    users, stop = _users(name), anyio.Event()
    async with Audience(site.stack) as audience, anyio.create_task_group() as tasks:
        traffic = Traffic(site, audience, Producer(site.stack, tuple(users)))
        traffic.seats = [await audience.join(user, n % 2, again=True) for n, user in enumerate(users)]

        async def send() -> None:
            await traffic.producer.send_until(stop, pause_s=PAUSE_S)

        tasks.start_soon(send)
        await traffic.flows()
        yield traffic
        await traffic.flows()
        stop.set()
        await _come(traffic, users)
        print(f"{name}: longest silence {traffic.longest_silence_s():.2f} s")  # noqa: T201 - a figure for who asks with -s
        tasks.cancel_scope.cancel()
    assert in_order_and_once(traffic.seats)
    assert not any(seat.closes[:-1] for seat in traffic.seats), "a session was closed"


async def _come(traffic: Traffic, users: list[str]) -> None:
    """Return when all that is stored has come."""
    with anyio.fail_after(60):
        while True:
            stored = await anyio.to_thread.run_sync(traffic.site.stored, users)
            if all(stored[seat.user] <= {*seat.seqs} for seat in traffic.seats):
                return
            await anyio.sleep(0.05)


async def test_main_job(site: Site) -> None:
    """All that is appended comes: to users of every shard, to a topic and to everybody."""
    users = _users("main")
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
    async with flowing(site, "agreed") as traffic:
        await anyio.to_thread.run_sync(site.cluster.fail_over, site.slot(traffic.seats[0].user))
    await anyio.to_thread.run_sync(site.cluster.wait_whole)


async def test_dead_primary(site: Site) -> None:
    """A primary is killed: its shards stand still until the replica has taken over, and the others do not."""
    async with flowing(site, "dead") as traffic:
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
    async with flowing(site, "moved") as traffic:
        await anyio.to_thread.run_sync(_move, site, site.slot(traffic.seats[-1].user), False)


async def test_slot_moves_at_once(site: Site) -> None:
    """The same as one step, where the server can (Valkey 9)."""
    if isinstance(site.cluster.servers[0], DebianRedis):
        pytest.skip("this Redis cannot")
    async with flowing(site, "atomic") as traffic:
        await anyio.to_thread.run_sync(_move, site, site.slot(traffic.seats[2].user), True)


def _move(site: Site, slot: int, at_once: bool) -> None:
    to = site.cluster.another_primary(site.cluster.primary_of(slot))
    (site.cluster.move_at_once if at_once else site.cluster.move)(slot, to)


async def test_all_of_it_restarts(site: Site) -> None:
    """Every server ends and comes back with what it had written."""
    async with flowing(site, "restart") as traffic:
        site.cluster.restart()
        await anyio.to_thread.run_sync(site.cluster.wait_whole)
        await traffic.flows()
