"""router.reshard over a real Redis and a real store: nothing is lost, whatever the numbers and wherever it is cut off."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, Final

import pytest

from router.cluster_redis import every_primary
from router.errors import SetupError
from router.keys import Keys, config_key
from router.redis_client import check_redis, open_redis
from router.reshard.run import NotDrained, reshard
from router.shards import shard_of_id, shard_of_target
from router.waiting import IN_HAND, Waiting, make_waiting_document, waiting_key
from tests.collecting import Cut
from tests.integration.site import Site, open_site
from tests.redis_cluster import ClusterServers
from tests.servers import EmbeddedValkey, Store

pytestmark = pytest.mark.anyio

USERS: Final = [f"u{number}" for number in range(12)]
KEPT: Final = ("dead", "offline", "events", "trace")
NUMBERS: Final = [(3, 2), (2, 5), (4, 1)]


def _nothing(_what: str, _count: int) -> None:
    """Say nothing."""


class Before:
    """A drained system of some shards, with something of everything, and what must be there after."""

    def __init__(self, site: Site, shards: int) -> None:
        self.site = site
        self.shards = shards
        self.redis: Any = site.redis
        self.later = site.mongo[site.settings.mongo_database].later
        self.settings = site.settings

    def keys(self, shard: int) -> Keys:
        """Return the names of a shard."""
        return Keys(self.settings.prefix, shard)

    def home(self, user: str, shards: int) -> Keys:
        """Return the names of a user's shard."""
        return self.keys(shard_of_id(user, shards))

    async def fill(self) -> None:
        """Write it all."""
        await self.redis.hset(config_key(self.settings.prefix), mapping={"shards": self.shards, "schema": 1})
        for number, user in enumerate(USERS):
            keys = self.home(user, self.shards)
            await self.redis.hset(keys.ack(user), f"phone user:{user}", 1000 + number)
            await self.redis.hset(keys.seq(f"user:{user}"), mapping={"given": 9, "handed": 9, "era": 1})
            await self.redis.zadd(keys.route(user), {"edge-1.gone": 1})
            await self.redis.hset(keys.online(), user, number)
        for shard in range(self.shards):
            keys = self.keys(shard)
            for stream in KEPT:
                for number in range(3):
                    await self.redis.xadd(f"{keys.base}{stream}", {"n": f"{stream} {shard} {number}"})
            await self.redis.zadd(keys.nodes(), {"edge-1.gone": 1})
        await self.later.insert_many([self._waiting(number) for number in range(self.shards * 3)])

    def _waiting(self, number: int) -> dict[str, Any]:
        shard = number % self.shards
        targets = tuple(f"user:{user}" for user in USERS if shard_of_id(user, self.shards) == shard)
        content = f'"text":"{number}"'
        one = Waiting(waiting_key(shard, f"w{number}", targets, content), shard, f"w{number}", targets, content, 2**41)
        return make_waiting_document(one) | ({"due_at": IN_HAND} if number < self.shards else {})

    async def waits(self) -> Counter[tuple[object, ...]]:
        """Return what waits for whom."""
        found = [one async for one in self.later.find({})]
        return Counter((one["id"], to, one["content"], one["at"], one["due_at"]) for one in found for to in one["targets"])

    async def kept(self, shards: int) -> Counter[str]:
        """Return what the streams for people have."""
        streams = [f"{self.keys(shard).base}{stream}" for shard in range(shards) for stream in KEPT]
        entries = [entry for stream in streams for entry in await self.redis.xrange(stream)]
        return Counter(fields[b"n"].decode() for _, fields in entries)

    async def is_all_there(self, shards: int, waited: Counter[tuple[object, ...]], kept: Counter[str]) -> None:
        """Assert that everything is where so many shards want it, once."""
        assert await self.waits() == waited
        async for one in self.later.find({}):
            assert {shard_of_target(target, shards) for target in one["targets"]} == {one["shard"]}
        assert await self.kept(shards) == kept
        for number, user in enumerate(USERS):
            keys = self.home(user, shards)
            assert await self.redis.hgetall(keys.ack(user)) == {f"phone user:{user}".encode(): b"%d" % (1000 + number)}
            assert await self.redis.hget(keys.online(), user) == b"%d" % number
        servers: Any = await every_primary(self.redis)
        pattern = f"{self.settings.prefix}:*"
        names = {name.decode() for server in servers async for name in server.scan_iter(match=pattern, count=1000)}
        assert not [name for name in names if any(kind in name for kind in (":seq:", ":route:", ":nodes", ":reshard"))]
        assert len([name for name in names if ":ack:" in name]) == len(USERS)
        assert all(name.startswith(tuple(self.keys(shard).base for shard in range(shards))) for name in names - {self._config})
        assert await self.redis.hgetall(self._config) == {b"shards": b"%d" % shards, b"schema": b"1"}

    @property
    def _config(self) -> str:
        return config_key(self.settings.prefix)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterServers]:
    """Yield a Redis Cluster."""
    with ClusterServers(tmp_path_factory.mktemp("cluster"), "valkey") as cluster:
        yield cluster


@pytest.fixture
async def make(valkey_server: EmbeddedValkey, store_server: Store) -> AsyncIterator[Callable[[int], Any]]:
    """Yield what makes a drained system."""
    async with AsyncExitStack() as stack:

        async def made(shards: int) -> Before:
            before = Before(await open_site(stack, valkey_server.url, store_server.url, shards=shards), shards)
            await before.fill()
            return before

        yield made


@pytest.mark.parametrize(("old", "new"), NUMBERS)
async def test_on_a_cluster(cluster: ClusterServers, store_server: Store, old: int, new: int) -> None:
    """Shards are on several primaries, and nothing is done to two of them in one step."""
    async with AsyncExitStack() as stack:
        before = Before(await open_site(stack, cluster.url, store_server.url, shards=old), old)
        await before.fill()
        waited, kept = await before.waits(), await before.kept(old)
        assert await reshard(before.redis, before.site.mongo, before.settings, new, _nothing)
        await before.is_all_there(new, waited, kept)


class _CutRedis:
    """Ends the process before the nth call to Redis."""

    def __init__(self, redis: Any, nth: int) -> None:  # noqa: ANN401 - the driver's, whose methods are replaced
        self._left = nth
        execute, pipeline = redis.execute_command, redis.pipeline

        async def execute_command(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - the driver's
            self._count()
            return await execute(*args, **options)

        def cut_pipeline(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - the driver's
            pipe = pipeline(*args, **options)
            whole = pipe.execute

            async def execute_all(*some: Any, **more: Any) -> Any:  # noqa: ANN401 - the driver's
                self._count()
                return await whole(*some, **more)

            pipe.execute = execute_all
            return pipe

        redis.execute_command = execute_command
        redis.pipeline = cut_pipeline

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise Cut


@pytest.mark.parametrize(("old", "new"), NUMBERS)
async def test_nothing_is_lost(make: Any, old: int, new: int) -> None:  # noqa: ANN401 - see `make`
    """Whatever waits, is kept for people, or is a device's, is in its shard; what is found anew is gone."""
    before = await make(old)
    waited, kept = await before.waits(), await before.kept(old)
    assert await reshard(before.redis, before.site.mongo, before.settings, new, _nothing)
    await before.is_all_there(new, waited, kept)
    assert not await reshard(before.redis, before.site.mongo, before.settings, new, _nothing)


@pytest.mark.parametrize(("old", "new"), NUMBERS)
async def test_cut_off_before_any_call(make: Any, old: int, new: int) -> None:  # noqa: ANN401 - see `make`
    """Cut off again and again, each time some calls further on, it comes to the same end; no service starts meanwhile."""
    before = await make(old)
    waited, kept = await before.waits(), await before.kept(old)
    cuts, nth, done = 0, 1, False
    while not done:
        async with open_redis(before.settings) as redis:
            _CutRedis(redis, nth)
            try:
                await reshard(redis, before.site.mongo, before.settings, new, _nothing)
                done = True
            except Cut:
                cuts += 1
                nth += 1
        if not done and await before.redis.hexists(config_key(before.settings.prefix), "resharding"):
            with pytest.raises(SetupError, match=f"reshard --to {new}"):
                await check_redis(before.redis, before.settings)
    assert cuts > 10
    await before.redis.unlink(*[before.keys(shard).reshard() for shard in range(max(old, new))])
    await before.is_all_there(new, waited, kept)


async def test_cut_off_behind_any_step(make: Any) -> None:  # noqa: ANN401 - see `make`
    """Likewise behind each step that it tells of, those in MongoDB among them."""
    before = await make(3)
    waited, kept = await before.waits(), await before.kept(3)
    for nth in range(1, 1_000):
        left = nth

        def tell(_what: str, _count: int) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Cut

        try:
            await reshard(before.redis, before.site.mongo, before.settings, 2, tell)
            break
        except Cut:
            continue
    await before.redis.unlink(*[before.keys(shard).reshard() for shard in range(3)])
    await before.is_all_there(2, waited, kept)


async def test_traffic_goes_on(make: Any) -> None:  # noqa: ANN401 - see `make`
    """What was accepted before and after is in one order a target, each seq above those before."""
    before = await make(3)
    site = before.site
    for number in range(3):
        for user in USERS:
            await site.append(0, to=f"user:{user}", id=f"a{number}", body=json.dumps(number))
    await site.settle()
    for shard in range(3):
        keys = before.keys(shard)
        await before.redis.delete(keys.lease("collect"), keys.out())
    await before.later.delete_many({})
    assert await reshard(before.redis, site.mongo, site.settings, 5, _nothing)
    after = Site(site.redis, site.mongo, site.settings.model_copy(update={"shards": 5}))
    after.appended += site.appended
    for number in range(3):
        for user in USERS:
            await after.append(number, to=f"user:{user}", id=f"b{user}{number}", body=json.dumps(number))
    await after.settle()
    stored = await after.stored()
    for user in USERS:
        ours = sorted((one for one in stored if one["target"] == f"user:{user}"), key=lambda one: int(one["seq"]))
        # The one that was in hand is brought through first.
        ours = [one for one in ours if not one["id"].startswith("w")]
        assert [one["id"] for one in ours][:3] == ["a0", "a1", "a2"]
        assert sorted(one["id"] for one in ours[3:]) == [f"b{user}{number}" for number in range(3)]
        assert all(one["shard"] == shard_of_id(user, 5) for one in ours)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("in", "has 1: end whoever appends"),
        ("out", "has 1: end whoever appends"),
        ("pending", "a batch is unfinished"),
        ("lease", "is held by me.abc"),
        ("worker", "worker me.abc lives"),
        ("node", "node edge-1.abc lives"),
    ],
)
async def test_refuses_what_is_not_drained(make: Any, what: str, said: str) -> None:  # noqa: ANN401 - see `make`
    """It names what is in the way, and has changed nothing."""
    before = await make(2)
    keys, soon_ms = before.keys(1), int(time.time() * 1000) + 60_000
    match what:
        case "in" | "out":
            await before.redis.xadd(f"{keys.base}{what}", {"to": "user:a"})
        case "pending":
            await before.redis.hset(keys.pending(), "user:a x", 1)
        case "lease":
            await before.redis.set(keys.lease("dispatch"), "me.abc 17")
        case "worker":
            await before.redis.zadd(before.keys(0).workers("collect"), {"me.abc": soon_ms})
        case _:
            await before.redis.zadd(before.keys(0).nodes(), {"edge-1.abc": soon_ms})
            await before.redis.zadd(keys.nodes(), {"edge-1.abc": soon_ms})
    with pytest.raises(NotDrained, match=said):
        await reshard(before.redis, before.site.mongo, before.settings, 3, _nothing)
    assert not await before.redis.hexists(config_key(before.settings.prefix), "resharding")
    await check_redis(before.redis, before.settings)


async def test_another_number_was_begun_with(make: Any) -> None:  # noqa: ANN401 - see `make`
    """That has to be finished first."""
    before = await make(2)
    await before.redis.hset(config_key(before.settings.prefix), "resharding", 4)
    with pytest.raises(SetupError, match="finish that first"):
        await reshard(before.redis, before.site.mongo, before.settings, 3, _nothing)


async def test_bridges_read_on(make: Any) -> None:  # noqa: ANN401 - see `make`
    """Of a stream that groups read, only what one of them was not done with goes to another shard."""
    before = await make(2)
    stream = before.keys(1).offline()
    await before.redis.xgroup_create(stream, "bridge", id="0")
    read = await before.redis.xreadgroup("bridge", "one", {stream: ">"}, count=2)
    await before.redis.xack(stream, "bridge", read[0][1][0][0])
    await reshard(before.redis, before.site.mongo, before.settings, 1, _nothing)
    kept = await before.kept(1)
    assert [name for name in kept if name.startswith("offline 1")] == ["offline 1 1", "offline 1 2"]


async def test_what_came_meanwhile_is_not_lost(make: Any) -> None:  # noqa: ANN401 - see `make`
    """A producer that was not ended appends to a shard that is no more: it is in another's `in`."""
    before = await make(2)

    begun: list[str] = []
    await before.redis.hset(config_key(before.settings.prefix), "resharding", 1)
    await before.redis.xadd(before.keys(1).intake(), {"to": "user:u1", "text": "late"})
    await reshard(before.redis, before.site.mongo, before.settings, 1, lambda what, _count: begun.append(what))
    assert begun[0] == "begun"
    assert [fields for _, fields in await before.redis.xrange(before.keys(0).intake())] == [
        {b"to": b"user:u1", b"text": b"late"}
    ]
