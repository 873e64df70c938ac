"""router.lease and router.sharing of one shard over a real Redis: who works, who waits, and how it changes hands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from router.keys import Keys
from router.lease import Lease
from router.ops import Health
from router.redis_client import open_redis
from router.settings import Settings
from router.sharing import Place, Sharing
from router.workers import Workers
from tests.collecting import until
from tests.servers import EmbeddedValkey

pytestmark = pytest.mark.anyio

KEYS = Keys("push", 0)
ROLE = "test"
KEY = KEYS.lease(ROLE)
LEASE_MS = 600


class Worker:
    """A process that holds the lease when it can."""

    def __init__(self, redis: Redis, name: str, lease_ms: int = LEASE_MS) -> None:
        settings = Settings(worker=name, lease_ms=lease_ms, backoff_min_ms=5, backoff_max_ms=50)
        self.health = Health()
        self.lease = Lease(redis, KEYS, ROLE, name, lease_ms)
        place = Place(self.lease, self._work)
        self.sharing = Sharing(ROLE, name, Workers(redis, settings, ROLE), [place], settings, self.health)
        self.scope = anyio.CancelScope()
        self.held: list[str] = []
        self.working = False
        self.enough = anyio.Event()

    async def run(self) -> None:
        """Hold the lease until `scope` is cancelled."""
        with self.scope:
            await self.sharing.run()

    async def _work(self, held: str) -> None:
        self.held.append(held)
        self.working = True
        try:
            await self.enough.wait()
        finally:
            self.working = False


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Redis]:
    async with open_redis(Settings(redis_url=url, redis_timeout_s=0.5)) as redis:
        yield redis


@pytest.fixture
async def redis(valkey_server: EmbeddedValkey) -> AsyncIterator[Redis]:
    """Yield a client to a Redis without leases."""
    async with _opened(valkey_server.url) as client:
        await client.delete(KEY, KEYS.workers(ROLE))
        yield client


async def test_one_works_and_the_other_is_ready(redis: Redis) -> None:
    """A standby is as ready as the holder; it takes over at once when the holder ends."""
    first, second = Worker(redis, "first", 6_000), Worker(redis, "second")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.run)
        await until(lambda: first.working)
        tasks.start_soon(second.run)
        await until(lambda: second.health.ready)
        assert not second.working
        first.scope.cancel()
        await until(lambda: second.working)
        assert not first.working
        tasks.cancel_scope.cancel()
    assert await redis.get(KEY) is None


def _held_figure() -> float | None:
    return REGISTRY.get_sample_value("pushway_lease_held", {"role": "test", "shard": "0"})


async def test_figure_says_who_works(redis: Redis) -> None:
    """A standby shows 0 from the start, the holder 1, and 0 again when it ends."""
    await redis.set(KEY, "somebody 1")
    worker = Worker(redis, "next")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await until(lambda: worker.health.ready)
        assert _held_figure() == 0
        await redis.delete(KEY)
        await until(lambda: worker.working)
        assert _held_figure() == 1
        tasks.cancel_scope.cancel()
    assert _held_figure() == 0


async def test_lease_is_renewed_for_as_long_as_the_work_lasts(redis: Redis) -> None:
    """Three lives later it is still the same lease."""
    worker = Worker(redis, "only")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await until(lambda: worker.working)
        await anyio.sleep(3 * LEASE_MS / 1000)
        assert (worker.working, len(worker.held)) == (True, 1)
        tasks.cancel_scope.cancel()


async def test_stolen_lease_ends_the_work(redis: Redis) -> None:
    """The lease went to another: the work is cancelled within a renewal, and the other's lease is left alone."""
    worker = Worker(redis, "robbed")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await until(lambda: worker.working)
        await redis.set(KEY, "thief 1")
        await until(lambda: not worker.working)
        assert await redis.get(KEY) == b"thief 1"
        await redis.delete(KEY)
        await until(lambda: worker.working)
        tasks.cancel_scope.cancel()
    assert len(set(worker.held)) == 2


async def test_work_that_returns_begins_anew(redis: Redis) -> None:
    """Work that found itself fenced off returns; the lease is given back and asked for again."""
    worker = Worker(redis, "returning")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await until(lambda: worker.working)
        worker.enough.set()
        await until(lambda: len(worker.held) > 2)
        tasks.cancel_scope.cancel()
    assert len(set(worker.held)) == len(worker.held)


async def test_work_that_fails_gives_the_lease_back(redis: Redis) -> None:
    """An error nobody foresaw ends the process: a standby need not wait for the lease to lapse."""

    async def fail(_held: str) -> None:
        raise ZeroDivisionError

    lease = Lease(redis, KEYS, ROLE, "failing", 60_000)
    held = await lease.take()
    assert held is not None
    with pytest.raises(ExceptionGroup) as caught:
        await lease.keep(held, fail)
    assert caught.group_contains(ZeroDivisionError)
    assert await redis.get(KEY) is None


async def test_lease_lives_through_a_short_outage(tmp_path: Path) -> None:
    """Redis away for less than the lease's life: the same lease goes on. Away for longer: a new one is taken."""
    with EmbeddedValkey(tmp_path / "valkey") as server:
        async with _opened(server.url) as redis, anyio.create_task_group() as tasks:
            worker = Worker(redis, "patient", 3_000)
            tasks.start_soon(worker.run)
            await until(lambda: worker.working)
            server.restart()
            await anyio.sleep(1.2)
            assert (worker.working, len(worker.held)) == (True, 1)
            await redis.flushall()
            await until(lambda: len(worker.held) == 2)
            tasks.cancel_scope.cancel()


async def test_nothing_answers_at_the_start(tmp_path: Path) -> None:
    """A worker that starts before Redis waits, unready, and works when Redis comes."""
    server = EmbeddedValkey(tmp_path / "valkey")
    async with _opened(server.url) as redis, anyio.create_task_group() as tasks:
        worker = Worker(redis, "early")
        tasks.start_soon(worker.run)
        await anyio.sleep(0.1)
        assert not worker.health.ready
        with server:
            await until(lambda: worker.working)
            tasks.cancel_scope.cancel()
