"""router.cluster_redis on real servers: commands, pipelines, scripts and connections of one's own find their slot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any, cast

import anyio
import pytest
from redis.exceptions import RedisError, ResponseError, TryAgainError

from router.cluster_redis import ClusterRedis, client_at, every_primary, slot_of
from router.errors import SetupError
from router.keys import Keys
from router.leavers import Leaving, Said
from router.own_connection import OwnConnection, pack
from router.redis_client import check_redis, open_redis
from router.settings import Settings
from tests.redis_cluster import ClusterServers
from tests.servers import DebianRedis, EmbeddedValkey

pytestmark = pytest.mark.anyio

SHARDS = 4
KEYS = [Keys("push", shard) for shard in range(SHARDS)]


@pytest.fixture(scope="module", params=["valkey", "redis"])
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterServers]:
    """Yield a cluster of each kind."""
    if request.param == "redis" and not DebianRedis.available():
        pytest.skip("no redis-server here")
    with ClusterServers(tmp_path_factory.mktemp("cluster"), request.param) as servers:
        yield servers


@pytest.fixture
async def cluster(servers: ClusterServers) -> AsyncIterator[ClusterRedis]:
    """Yield a client of an empty cluster."""
    async with open_redis(Settings(redis_url=servers.url, shards=SHARDS)) as redis:
        assert isinstance(redis, ClusterRedis)
        for primary in await every_primary(redis):
            await primary.flushall()
        yield redis


async def test_keys_of_all_shards(cluster: ClusterRedis) -> None:
    """In one pipeline too, whose replies are in the order of its commands."""
    for keys in KEYS:
        await cluster.set(keys.out(), keys.shard)
    async with cluster.pipeline(transaction=False) as pipe:
        pipe.time()
        for keys in reversed(KEYS):
            pipe.get(keys.out())
        time, *replies = await pipe.execute()
    assert len(time) == 2
    assert replies == [b"3", b"2", b"1", b"0"]


async def test_error_in_a_pipeline(cluster: ClusterRedis) -> None:
    """It is one reply, or what is raised."""
    async with cluster.pipeline(transaction=False) as pipe:
        pipe.set(KEYS[0].out(), "x")
        pipe.incr(KEYS[0].out())
        pipe.set(KEYS[1].out(), "y")
        first, error, last = await pipe.execute(raise_on_error=False)
        assert (first, type(error), last) == (True, type(error), True)
        pipe.incr(KEYS[0].out())
        with pytest.raises(RedisError):
            await pipe.execute()


async def test_scripts_are_loaded_where_they_are_called(cluster: ClusterRedis) -> None:
    """On each primary that has one of the shards."""
    script = cluster.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert [await script(keys=[keys.out()], args=[keys.shard]) for keys in KEYS] == [0, 1, 2, 3]


async def test_channels_are_heard_where_they_are(cluster: ClusterRedis) -> None:
    """Sharded ones belong to a slot."""
    for keys in KEYS:
        async with client_at(cluster, keys.base).pubsub() as ear:
            await ear.ssubscribe(keys.all_channel())
            assert (await ear.get_message(timeout=5.0))["type"] == "ssubscribe"
            assert await cluster.spublish(keys.all_channel(), "hi") == 1


async def test_a_failover_costs_a_call_nothing(servers: ClusterServers, cluster: ClusterRedis) -> None:
    """Where both servers agree on it: MOVED says who has the slot now."""
    key = KEYS[2].out()
    await cluster.set(key, "kept")
    await anyio.to_thread.run_sync(servers.fail_over, slot_of(key))
    assert await cluster.get(key) == b"kept"
    await anyio.to_thread.run_sync(servers.wait_whole)


async def test_a_connection_of_ones_own_follows(servers: ClusterServers, cluster: ClusterRedis) -> None:
    """One call fails, and the next is where the slot is."""
    key = KEYS[1].out()
    own = OwnConnection(cluster, key)
    await own.send(pack("SET", key, "kept"), 1)
    assert await own.receive() == b"OK"
    await anyio.to_thread.run_sync(servers.fail_over, slot_of(key))
    with suppress(RedisError):
        await own.send(pack("GET", key), 1)
        await own.receive()
    await own.send(pack("GET", key), 1)
    assert await own.receive() == b"kept"
    await anyio.to_thread.run_sync(servers.wait_whole)


async def test_a_slot_on_the_move(servers: ClusterServers, cluster: ClusterRedis) -> None:
    """Key by key: one key is found wherever it is; of several, the caller is told to come again."""
    key, other = KEYS[3].out(), KEYS[3].fast()
    await cluster.set(key, "kept")
    slot = slot_of(key)
    origin = await anyio.to_thread.run_sync(servers.primary_of, slot)
    to = await anyio.to_thread.run_sync(servers.another_primary, origin)

    def half_way() -> None:
        anyio.run(look)

    async def look() -> None:
        async with open_redis(Settings(redis_url=servers.url)) as found:
            redis: Any = found
            assert await redis.get(key) == b"kept"
            assert await redis.set(other, "new")
            with pytest.raises(TryAgainError):
                await redis.mget(key, other)

    await anyio.to_thread.run_sync(servers.move, slot, to, half_way)
    assert await cluster.mget(key, other) == [b"kept", b"new"]
    await anyio.to_thread.run_sync(servers.wait_whole)


async def test_a_dead_primary_is_replaced(servers: ClusterServers, cluster: ClusterRedis) -> None:
    """Who calls again and again is answered once the replica has taken over; other shards never notice."""
    key = KEYS[0].out()
    await cluster.set(key, "kept")
    primary = await anyio.to_thread.run_sync(servers.primary_of, slot_of(key))
    others = [keys.out() for keys in KEYS if servers.primary_of(slot_of(keys.out())) is not primary]
    await cluster.at(key).execute_command("WAIT", 1, 1_000)
    primary.kill()
    try:
        with anyio.fail_after(20):
            found = None
            while found is None:
                for other in others:
                    await cluster.exists(other)
                with suppress(RedisError, OSError):
                    found = await cluster.get(key)
                await anyio.sleep(0.05)
        assert found == b"kept"
    finally:
        primary.start()  # a thread that starts it would take it along when it ends
        await anyio.to_thread.run_sync(servers.wait_whole)


async def test_a_node_behind_the_address_of_a_server(servers: ClusterServers) -> None:
    """It would have some of the keys only, so no service starts on it."""
    settings = Settings(redis_url=servers.servers[0].url)
    async with open_redis(settings) as redis:
        with pytest.raises(SetupError, match=r"add .cluster=true"):
            await check_redis(redis, settings)


async def test_a_server_behind_the_address_of_a_cluster(valkey_server: EmbeddedValkey) -> None:
    """Likewise."""
    settings = Settings(redis_url=f"redis://127.0.0.1:{valkey_server.port}/?cluster=true")
    async with open_redis(settings) as redis:
        with pytest.raises(SetupError, match="no Redis Cluster"):
            await check_redis(redis, settings)


async def test_every_primary_is_fit(cluster: ClusterRedis) -> None:
    """And `push:config` is wherever its slot is."""
    await check_redis(cluster, Settings(shards=SHARDS))
    with pytest.raises(SetupError, match="shards=4"):
        await check_redis(cluster, Settings(shards=2))


async def test_offline_is_not_said_of_a_slot_on_the_move(servers: ClusterServers, cluster: ClusterRedis) -> None:
    """A route that stands at the next server already counts as unknown, not as none."""
    keys, redis = KEYS[0], cast(Any, cluster)
    soon = 10**13
    await redis.set(keys.lease("dispatch"), "me 1")
    await redis.zadd(keys.nodes(), {"edge-1.a": soon})
    await redis.zadd(keys.route("ann"), {"edge-1.a": soon})
    await redis.zadd(keys.leaving(), {"ann": 1})
    await redis.hset(keys.online(), "ann", 1)
    await redis.xadd(keys.events(), {"event": "online"})
    slot = slot_of(keys.base)
    origin = await anyio.to_thread.run_sync(servers.primary_of, slot)
    to = await anyio.to_thread.run_sync(servers.another_primary, origin)

    def half_way() -> None:
        with origin.client() as source:
            source.execute_command("MIGRATE", "127.0.0.1", to.port, keys.route("ann"), 0, 5_000)
        anyio.run(say_nothing)

    async def say_nothing() -> None:
        async with open_redis(Settings(redis_url=servers.url)) as other:
            with pytest.raises(ResponseError, match="non local key"):
                await Leaving(other, keys, Settings()).say("me 1")

    await anyio.to_thread.run_sync(servers.move, slot, to, half_way)
    assert await Leaving(cluster, keys, Settings()).say("me 1") == Said(looked_at=1, offline=0)
    assert await redis.hexists(keys.online(), "ann")
    await anyio.to_thread.run_sync(servers.wait_whole)
