"""router.shard_states, router.slot_plan and router.doctor.cluster on a real Redis Cluster: where shards are; moving them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Final

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from router.cluster_redis import ClusterRedis, slot_of
from router.doctor.cluster import examine
from router.doctor.findings import Finding, Severity
from router.keys import Keys
from router.redis_client import open_redis
from router.redis_url import Address
from router.settings import Settings
from router.shard_states import ShardState, read_shards
from router.slot_plan import commands_of, even_moves
from tests.redis_cluster import ClusterServers
from tests.servers import DebianRedis

pytestmark = pytest.mark.anyio

SHARDS: Final = 6
KEYS: Final = [Keys("push", shard) for shard in range(SHARDS)]
MIGRATES_SLOTS: Final = 9


@pytest.fixture(scope="module", params=["valkey", "redis"])
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterServers]:
    """Yield a cluster of each kind."""
    if not DebianRedis.available():
        pytest.skip("no redis-server and redis-cli here")
    with ClusterServers(tmp_path_factory.mktemp("cluster"), request.param) as servers:
        yield servers


@pytest.fixture
async def cluster(servers: ClusterServers) -> AsyncIterator[ClusterRedis]:
    """Yield a client of it."""
    async with open_redis(Settings(redis_url=servers.url, shards=SHARDS)) as redis:
        assert isinstance(redis, ClusterRedis)
        yield redis


async def test_states_say_where_shards_are(cluster: ClusterRedis) -> None:
    """Where each is, who works there, and what waits."""
    await cluster.set(KEYS[1].lease("collect"), "me.abc 17")
    await cluster.xadd(KEYS[2].intake(), {"to": "user:a"})
    found = await read_shards(cluster, Settings(shards=SHARDS))
    assert not any(state.away for state in found), [state.away for state in found]
    assert [state.slot for state in found] == [slot_of(keys.base) for keys in KEYS]
    assert [state.primary for state in found] == [str(await cluster.primary_of(keys.out())) for keys in KEYS]
    assert [state.collect for state in found] == ["", "me.abc", "", "", "", ""]
    assert [state.intake.entries for state in found] == [0, 0, 1, 0, 0, 0]
    assert not any(state.away for state in found)


async def test_what_is_planned_can_be_typed(cluster: ClusterRedis) -> None:
    """It makes shards even and takes their keys along; then there is nothing more to move."""
    for keys in KEYS:
        await cluster.set(keys.out(), keys.shard)
    ids = await cluster.primary_ids()
    version = str((await cluster.info("server")).get("valkey_version", "0"))
    moves = even_moves(await _owners(cluster), sorted(ids))
    assert moves
    for move in moves:
        for line in commands_of(move, ids, at_once=int(version.partition(".")[0]) >= MIGRATES_SLOTS):
            with anyio.fail_after(20):
                done = await anyio.run_process(["sh", "-c", line])
            assert b"ERR" not in done.stdout
    with anyio.fail_after(30):
        while even_moves(await _owners(cluster), sorted(ids)):  # noqa: ASYNC110 - the servers move them
            await anyio.sleep(0.1)
    assert set(Counter(await _owners(cluster)).values()) == {SHARDS // len(ids)}
    assert [await cluster.get(keys.out()) for keys in KEYS] == [b"%d" % keys.shard for keys in KEYS]
    for keys in KEYS:
        await cluster.delete(keys.out())


async def test_half_moved_slot_is_told(servers: ClusterServers, cluster: ClusterRedis) -> None:
    """While it is so doctor says from whom and to whom, and its shard that it is; before and after that all is well."""
    slot = slot_of(KEYS[3].base)
    source = servers.primary_of(slot)
    target = servers.another_primary(source)
    while_moving: list[Finding] = []
    states: list[ShardState] = []

    def look() -> None:
        while_moving.extend(anyio.from_thread.run(examine, cluster, Settings(shards=SHARDS)))
        states.extend(anyio.from_thread.run(read_shards, cluster, Settings(shards=SHARDS)))

    (before,) = await examine(cluster, Settings(shards=SHARDS))
    await anyio.to_thread.run_sync(servers.move, slot, target, look)
    (after,) = await examine(cluster, Settings(shards=SHARDS))
    assert before == after
    assert before.severity is Severity.OK
    (half,) = while_moving
    assert half.severity is Severity.ERROR
    told = f"slot {slot} (shard 3) is half moved, from 127.0.0.1:{source.port} to 127.0.0.1:{target.port}"
    assert half.seen.startswith(told)
    assert [state.away for state in states] == ["", "", "", "its slot is half moved", "", ""]


async def _owners(cluster: ClusterRedis) -> list[Address]:
    """Return where each shard is, once every command has found it there."""
    for keys in KEYS:
        await cluster.get(keys.out())
    return [await cluster.primary_of(keys.out()) for keys in KEYS]
