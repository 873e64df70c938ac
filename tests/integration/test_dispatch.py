"""router.dispatch over a real Redis: from `out` to the channels, through deaths, bad lines and outages."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog

from router.dispatch import Dispatcher, Outlet, serve
from router.keys import Keys
from router.lines import build_line
from router.ops import Health
from router.outage import Outages
from router.redis_client import open_redis
from router.settings import Settings
from router.shards import shard_of_id
from tests.collecting import Cut, Cutting, until
from tests.servers import EmbeddedValkey

pytestmark = pytest.mark.anyio

FAR_MS = 9_999_999_999_999


class Floor:
    """`out` and `fast` of one shard, edges that listen, and dispatchers that come and go."""

    def __init__(self, redis: Any, settings: Settings, shard: int = 0) -> None:  # noqa: ANN401 - RESP2 replies
        self.redis = redis
        self.settings = settings
        self.keys = Keys(settings.prefix, shard)
        self.health = Health()
        self.heard: list[str] = []
        self._leases = 0

    async def lease(self) -> str:
        """Give the lease to somebody new."""
        self._leases += 1
        held = f"dispatcher {self._leases}"
        await self.redis.set(self.keys.lease("dispatch"), held)
        return held

    def dispatcher(self, outlet: object = None) -> Dispatcher:
        """Return a dispatcher, with an outlet of the test's own."""
        part: Any = outlet or self.outlet()
        return Dispatcher(part, Outages(self.health, self.settings), self.settings)

    def outlet(self) -> Outlet:
        """Return the shard's outlet."""
        return Outlet(self.redis, self.keys, self.settings)

    async def put(self, *lines: str) -> None:
        """Append lines to `out`."""
        for line in lines:
            await self.redis.xadd(self.keys.out(), {"line": line})

    async def put_fast(self, *fields: dict[str, str]) -> None:
        """Append entries to `fast`."""
        for one in fields:
            await self.redis.xadd(self.keys.fast(), one)

    async def drained(self) -> None:
        """Return when both lanes are empty."""
        while await self.redis.xlen(self.keys.out()) or await self.redis.xlen(self.keys.fast()):  # noqa: ASYNC110 - as it says
            await anyio.sleep(0.005)

    @asynccontextmanager
    async def edge(self, *users: str) -> AsyncIterator[None]:
        """Listen as an edge that holds these users; what is heard goes to `heard`, line by line."""
        channel = self.keys.node_channel("edge.1")
        await self.redis.zadd(self.keys.nodes(), {"edge.1": FAR_MS})
        for user in users:
            await self.redis.zadd(self.keys.route(user), {"edge.1": FAR_MS})
        async with self.redis.pubsub() as pubsub, anyio.create_task_group() as tasks:
            await pubsub.ssubscribe(channel)
            await pubsub.get_message(timeout=60)
            tasks.start_soon(self._listen, pubsub)
            yield
            tasks.cancel_scope.cancel()

    async def _listen(self, pubsub: Any) -> None:  # noqa: ANN401 - RESP2 replies
        while True:
            message = await pubsub.get_message(timeout=1)
            if message and message["type"] == "smessage":
                self.heard += message["data"].decode().split("\n")


def _lines(count: int, target: str = "user:a", first: int = 1) -> list[str]:
    return [build_line(target, seq - 1, seq, None, "{}") for seq in range(first, first + count)]


def _settings(url: str) -> Settings:
    return Settings(redis_url=url, prefix=f"test-{uuid.uuid4().hex}", wait_ms=20, backoff_min_ms=5, backoff_max_ms=50)


@pytest.fixture
async def floor(valkey_server: EmbeddedValkey) -> AsyncIterator[Floor]:
    """Yield a floor of its own prefix."""
    settings = _settings(valkey_server.url)
    async with open_redis(settings) as redis:
        yield Floor(redis, settings)


async def test_lines_reach_the_edge_in_order(floor: Floor) -> None:
    """What stands in `out`, and what comes later, is heard in order."""
    async with floor.edge("a"), anyio.create_task_group() as tasks:
        await floor.put(*_lines(300))
        tasks.start_soon(floor.dispatcher().run, await floor.lease())
        await until(lambda: len(floor.heard) == 300)
        await floor.put(*_lines(5, first=301))
        await until(lambda: len(floor.heard) == 305)
        tasks.cancel_scope.cancel()
    assert floor.heard == _lines(305)
    await floor.drained()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", [1, 2, 3])
async def test_successor_takes_over(floor: Floor, when: str, nth: int) -> None:
    """A dispatcher ends at a call; the next one finishes what it had taken, and only then takes what is new."""
    floor.settings = floor.settings.model_copy(update={"batch_max": 10})
    async with floor.edge("a"):
        await floor.put(*_lines(25))
        with pytest.raises(Cut):
            await floor.dispatcher(Cutting(floor.outlet(), "dispatch", when, nth)).run(await floor.lease())
        await floor.put(*_lines(5, first=26))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(floor.dispatcher().run, await floor.lease())
            await until(lambda: len(floor.heard) == 30)
            tasks.cancel_scope.cancel()
    assert floor.heard == _lines(30)


async def test_entries_of_a_dead_owner_come_first(floor: Floor) -> None:
    """What was read and not acknowledged is published before anything new."""
    async with floor.edge("a"):
        await floor.put(*_lines(10))
        await floor.redis.xgroup_create(floor.keys.out(), "dispatch", id="0")
        await floor.redis.xreadgroup("dispatch", "dispatch", {floor.keys.out(): ">"}, count=6)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(floor.dispatcher().run, await floor.lease())
            await until(lambda: len(floor.heard) == 10)
            tasks.cancel_scope.cancel()
    assert floor.heard == _lines(10)
    await floor.drained()


async def test_bad_lines_are_buried_between_good_ones(floor: Floor) -> None:
    """Each dies alone, with its reason; the good ones around it are all heard, in order."""
    good = _lines(20)
    mixed = [text for pair in zip(good, [f"bad{n}" for n in range(20)], strict=True) for text in pair]
    async with floor.edge("a"), anyio.create_task_group() as tasks:
        await floor.put(*mixed)
        with structlog.testing.capture_logs() as logs:
            tasks.start_soon(floor.dispatcher().run, await floor.lease())
            with anyio.fail_after(60):
                await floor.drained()
        await until(lambda: len(floor.heard) >= 20)
        tasks.cancel_scope.cancel()
    assert list(dict.fromkeys(floor.heard)) == good
    dead = await floor.redis.xrange(floor.keys.dead())
    assert [fields[b"line"] for _, fields in dead] == [b"bad%d" % n for n in range(20)]
    assert sum(entry["count"] for entry in logs if entry["event"] == "entries_died") == 20


async def test_fenced_dispatcher_ends(floor: Floor) -> None:
    """With a lease of the past it returns, and has published nothing."""
    stale = await floor.lease()
    await floor.lease()
    async with floor.edge("a"):
        await floor.put(*_lines(5))
        with anyio.fail_after(60):
            await floor.dispatcher().run(stale)
    assert floor.heard == []
    assert await floor.redis.xlen(floor.keys.out()) == 5


async def test_budgets_lose_nothing(floor: Floor) -> None:
    """With budgets far too small for the batch every line still comes, once and in order."""
    floor.settings = floor.settings.model_copy(update={"publish_max_bytes": 100, "read_max_bytes": 300})
    async with floor.edge("a"), anyio.create_task_group() as tasks:
        await floor.put(*_lines(400))
        tasks.start_soon(floor.dispatcher().run, await floor.lease())
        await until(lambda: len(floor.heard) == 400)
        tasks.cancel_scope.cancel()
    assert floor.heard == _lines(400)


def _fast(count: int, user: str = "a") -> list[dict[str, str]]:
    return [{"to": f"user:{user}", "body": str(n)} for n in range(count)]


def _is_fast(line: str) -> bool:
    return ";fast=1" in line.split(" ", 4)[3]


def _body(line: str) -> int:
    return int(json.loads(line.split(" ", 4)[4])["body"])


@pytest.mark.parametrize("publish_max_bytes", [4_194_304, 300], ids=["whole batches", "cut batches"])
async def test_lanes_are_served_in_turns(floor: Floor, publish_max_bytes: int) -> None:
    """Both are full: as long as they are, one is never further ahead of the other than a batch each. All of it is heard."""
    changes = {"batch_max": 10, "publish_max_bytes": publish_max_bytes, "transient_max_age_ms": 600_000}
    floor.settings = floor.settings.model_copy(update=changes)
    async with floor.edge("a"), anyio.create_task_group() as tasks:
        await floor.put(*_lines(200))
        await floor.put_fast(*_fast(200))
        tasks.start_soon(floor.dispatcher().run, await floor.lease())
        await until(lambda: len(floor.heard) == 400)
        tasks.cancel_scope.cancel()
    ahead = list(accumulate(1 if _is_fast(line) else -1 for line in floor.heard[:350]))
    if publish_max_bytes > 300:
        assert max(map(abs, ahead)) <= 20
    else:
        # A cut batch is as many lines as fit, and those of the two lanes differ in length.
        assert all(
            any(map(_is_fast, part)) and not all(map(_is_fast, part))
            for part in (floor.heard[at : at + 50] for at in range(0, 200, 50))
        )
    assert [line for line in floor.heard if not _is_fast(line)] == _lines(200)
    assert [_body(line) for line in floor.heard if _is_fast(line)] == list(range(200))


@pytest.mark.parametrize("full", ["out", "fast"])
async def test_a_lane_that_was_empty_is_seen_while_the_other_is_full(floor: Floor, full: str) -> None:
    """What comes on one lane while the other is long does not wait for the end of that."""
    floor.settings = floor.settings.model_copy(update={"batch_max": 5, "transient_max_age_ms": 600_000})

    async def put(count: int, *, fast: bool) -> None:
        await (floor.put_fast(*_fast(count)) if fast else floor.put(*_lines(count)))

    async with floor.edge("a"), anyio.create_task_group() as tasks:
        await put(1_000, fast=full == "fast")
        tasks.start_soon(floor.dispatcher().run, await floor.lease())
        await until(lambda: len(floor.heard) > 10)
        await put(1, fast=full == "out")
        await until(lambda: len(floor.heard) == 1_001)
        tasks.cancel_scope.cancel()
    assert [_is_fast(line) for line in floor.heard].index(full == "out") < 990


async def test_each_lane_rings(floor: Floor) -> None:
    """Whoever sleeps at the bell is woken by either, at once, and hears each entry once."""
    floor.settings = floor.settings.model_copy(update={"wait_ms": 60_000})
    async with floor.edge("a"), anyio.create_task_group() as tasks:
        tasks.start_soon(floor.dispatcher().run, await floor.lease())
        for n in range(1, 6):
            await floor.put_fast(*_fast(1))
            await until(lambda: len(floor.heard) == 2 * n - 1)  # noqa: B023 - it is over before n changes
            await floor.put(*_lines(1, first=n))
            await until(lambda: len(floor.heard) == 2 * n)  # noqa: B023 - likewise
        tasks.cancel_scope.cancel()
    assert [_is_fast(line) for line in floor.heard] == [True, False] * 5


class Counting:
    """An outlet, how often it was asked to hand on what the news had told of before, and whether its dispatcher has ended."""

    def __init__(self, inner: Outlet) -> None:
        self._inner = inner
        self.calls = 0
        self.ended = anyio.Event()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the inner one has
        self.calls += name == "dispatch"
        return getattr(self._inner, name)


@asynccontextmanager
async def _alone(floor: Floor) -> AsyncIterator[Counting]:
    """Have messages come alone on the fast lane, until the call that hands them on is made ahead; three are heard by then."""
    floor.settings = floor.settings.model_copy(update={"wait_ms": 60_000, "transient_max_age_ms": 600_000})
    outlet = Counting(floor.outlet())

    async def work(held: str) -> None:
        await floor.dispatcher(outlet).run(held)
        outlet.ended.set()

    async with floor.edge("a"), anyio.create_task_group() as tasks:
        tasks.start_soon(work, await floor.lease())
        for n in range(3):
            await floor.put_fast(*_fast(1))
            await until(lambda: len(floor.heard) == n + 1)  # noqa: B023 - it is over before n changes
        yield outlet
        tasks.cancel_scope.cancel()


async def test_what_comes_alone_is_handed_on_with_the_news(floor: Floor) -> None:
    """No call of its own is made for it any more; a crowd behind it comes whole and in order, and so does the other lane."""
    async with _alone(floor) as outlet:
        before = outlet.calls
        for n in range(3, 8):
            await floor.put_fast(*_fast(1))
            await until(lambda: len(floor.heard) == n + 1)  # noqa: B023 - likewise
        assert outlet.calls == before
        async with floor.redis.pipeline() as crowd:
            for n in range(100):
                crowd.xadd(floor.keys.fast(), {"to": "user:a", "body": str(n)})
            await crowd.execute()
        await floor.put(*_lines(3))
        await until(lambda: len(floor.heard) == 111)
    assert [_body(line) for line in floor.heard if _is_fast(line)] == [0] * 8 + list(range(100))
    assert [line for line in floor.heard if not _is_fast(line)] == _lines(3)


async def test_a_call_made_ahead_finds_no_script(floor: Floor) -> None:
    """It is loaded anew, and nothing is lost or doubled."""
    async with _alone(floor):
        await floor.redis.script_flush()
        await floor.put_fast(*_fast(1))
        await until(lambda: len(floor.heard) == 4)
        await floor.put_fast(*_fast(1))
        await until(lambda: len(floor.heard) == 5)


async def test_a_call_made_ahead_is_fenced_off(floor: Floor) -> None:
    """Whoever has lost the lease hands on nothing by a call that he made while he had it; his successor does."""
    async with _alone(floor) as outlet:
        held = await floor.lease()
        await floor.put_fast(*_fast(1))
        with anyio.fail_after(60):
            await outlet.ended.wait()
        assert await floor.redis.xlen(floor.keys.fast()) == 1
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(floor.dispatcher().run, held)
            await until(lambda: len(floor.heard) == 4)
            tasks.cancel_scope.cancel()


async def test_bad_fast_entries_die_between_good_ones(floor: Floor) -> None:
    """Each dies with its reason, and those around it are heard in order; the log has a line a batch, not one an entry."""
    mixed = [one for n in range(20) for one in ({"to": "user:a", "body": str(n)}, {"to": "user:a", "tll": str(n)})]
    async with floor.edge("a"), anyio.create_task_group() as tasks:
        await floor.put_fast(*mixed)
        with structlog.testing.capture_logs() as logs:
            tasks.start_soon(floor.dispatcher().run, await floor.lease())
            await until(lambda: len(floor.heard) == 20)
            with anyio.fail_after(60):
                await floor.drained()
        tasks.cancel_scope.cancel()
    assert [_body(line) for line in floor.heard] == list(range(20))
    assert await floor.redis.xlen(floor.keys.dead()) == 20
    told = [entry for entry in logs if entry["event"] == "entries_died"]
    assert sum(entry["count"] for entry in told) == 20
    assert len(told) == 1


async def test_wrong_shard_is_put_right(valkey_server: EmbeddedValkey) -> None:
    """An entry on another shard's lane is moved on once, between those that are where they belong, and heard from its own."""
    settings = _settings(valkey_server.url).model_copy(update={"shards": 2})
    users = [next(f"u{n}" for n in range(100) if shard_of_id(f"u{n}", 2) == shard) for shard in (0, 1)]
    async with open_redis(settings) as redis:
        floors = [Floor(redis, settings, shard) for shard in (0, 1)]
        async with floors[0].edge(users[0]), floors[1].edge(users[1]), anyio.create_task_group() as tasks:
            for floor in floors:
                tasks.start_soon(floor.dispatcher().run, await floor.lease())
            await floors[0].put_fast(
                *(one for pair in zip(_fast(10, users[0]), _fast(10, users[1]), strict=True) for one in pair)
            )
            await until(lambda: all(len(floor.heard) == 10 for floor in floors))
            for floor in floors:
                await floor.drained()
            tasks.cancel_scope.cancel()
        for floor, user in zip(floors, users, strict=True):
            assert [_body(line) for line in floor.heard] == list(range(10))
            assert {line.partition(" ")[0] for line in floor.heard} == {f"user:{user}"}
            assert await redis.exists(floor.keys.dead()) == 0


async def test_redis_is_away_for_a_while(tmp_path: Path) -> None:
    """Said once, unready meanwhile, and what stood in `out` is published when Redis is back."""
    with EmbeddedValkey(tmp_path / "valkey") as server:
        settings = _settings(server.url)
        async with open_redis(settings) as redis, anyio.create_task_group() as tasks:
            floor = Floor(redis, settings)
            held = await floor.lease()
            with structlog.testing.capture_logs() as logs:
                tasks.start_soon(floor.dispatcher().run, held)
                await floor.put(*_lines(5))
                await floor.drained()
                server.kill()
                await until(lambda: bool(floor.health.reasons))
                server.start()
                await until(lambda: not floor.health.reasons)
            async with floor.edge("a"):
                await floor.put(*_lines(5))
                await until(lambda: len(floor.heard) == 5)
            tasks.cancel_scope.cancel()
        changes = [(entry["event"], entry["server"]) for entry in logs if entry["event"].startswith("outage_")]
        assert changes == [("outage_began", "redis"), ("outage_ended", "redis")]


async def test_service_serves_every_shard_until_stopped(valkey_server: EmbeddedValkey) -> None:
    """`serve` takes the leases of all shards, is ready, and gives them back when it stops."""
    settings = _settings(valkey_server.url).model_copy(update={"shards": 3})
    health, stop = Health(), anyio.Event()
    async with open_redis(settings) as redis:
        leases = [Keys(settings.prefix, shard).lease("dispatch") for shard in range(3)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, settings, health, stop)
            await until(lambda: health.ready)
            with anyio.fail_after(60):
                while await redis.exists(*leases) < 3:  # noqa: ASYNC110 - they stand in Redis
                    await anyio.sleep(0.005)
            stop.set()
        assert await redis.exists(*leases) == 0
