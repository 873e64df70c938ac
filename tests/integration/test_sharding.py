"""router.sharding at the wire: what a router of a sharded MongoDB is asked for, that nobody else is, and what doctor sees."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from router.doctor.findings import Severity
from router.doctor.mongo_server import examine
from router.errors import SetupError
from router.migrate import migrate
from router.mongo_client import CONFIRMED, confirmed, durable_collection, open_mongo
from router.settings import Settings
from tests.replica_set import ReplicaSet
from tests.servers import Store

pytestmark = pytest.mark.anyio

KEYS = {"inbox": "target", "later": "id", "bodies": "_id", "cursors": "_id", "subscriptions": "_id"}


def _hashed_only(command: dict[str, Any]) -> dict[str, Any] | None:
    """Answer for an index that the embedded store does not know; the store makes the others."""
    hashed = any("hashed" in index["key"].values() for index in command["indexes"])
    return {"ok": 1.0} if hashed else None


@pytest.fixture
def routers(store_server: Store) -> Iterator[ReplicaSet]:
    """Yield two addresses that call themselves routers."""
    with ReplicaSet(store_server.port) as routers:
        routers.router = True
        routers.answers = {name: lambda _: {"ok": 1.0} for name in ("enableSharding", "shardCollection")}
        routers.answers["createIndexes"] = _hashed_only
        yield routers


def _settings(url: str) -> Settings:
    return Settings(mongo_url=url, mongo_database=f"test-{uuid.uuid4().hex}", mongo_timeout_s=2.0)


async def test_collections_are_sharded(routers: ReplicaSet) -> None:
    """By hashes of what keeps an `_id` on one shard, each behind its index; and again when it is run again."""
    settings = _settings(routers.url)
    for _ in range(2):
        routers.commands.clear()
        await migrate(settings)
        first, *rest = routers.commands
        assert first["enableSharding"] == settings.mongo_database
        expected = [(name, {field: "hashed"}) for name, field in KEYS.items()]
        assert [(one["createIndexes"], one["indexes"][0]["key"]) for one in rest[::2]] == expected
        assert [(one["shardCollection"].partition(".")[2], one["key"]) for one in rest[1::2]] == expected


async def test_sharded_by_another_key(routers: ReplicaSet) -> None:
    """It is said which collection that is, and what changes it."""
    error = {"ok": 0.0, "code": 23, "codeName": "AlreadyInitialized", "errmsg": "sharding already enabled"}
    routers.answers["shardCollection"] = lambda command: error if command["shardCollection"].endswith(".later") else {"ok": 1.0}
    with pytest.raises(SetupError, match=r'later is sharded by another key than \{id: "hashed"\}'):
        await migrate(_settings(routers.url))


async def test_a_replica_set_is_not_sharded(store_server: Store) -> None:
    """Nobody asks it for what it does not know."""
    with ReplicaSet(store_server.port) as members:
        await migrate(_settings(members.url))
        assert members.asked["enableSharding"] == members.asked["shardCollection"] == 0


async def test_doctor_tells_of_another_key(routers: ReplicaSet) -> None:
    """As the routers know it; and where it may not read that, it says so."""
    settings = _settings(routers.url)
    await migrate(settings)
    keys = {name: {field: "hashed"} for name, field in KEYS.items()} | {"inbox": {"seq": 1}}
    found = [{"_id": f"{settings.mongo_database}.{name}", "key": key} for name, key in keys.items()]
    routers.answers["find"] = lambda _: {"ok": 1.0, "cursor": {"id": 0, "ns": "config.collections", "firstBatch": found}}
    async with open_mongo(settings) as client:
        told = await examine(client, settings)
        (wrong,) = [finding.seen for finding in told if finding.severity is Severity.ERROR]
        assert wrong.startswith("""inbox is sharded by {'seq': 1} and not by {target: "hashed"}""")
        asked = routers.commands[-1]
        assert (asked["find"], asked["$db"]) == ("collections", "config")
        found[0]["key"] = {"target": "hashed"}
        assert {finding.severity for finding in await examine(client, settings)} == {Severity.OK}
        routers.answers["find"] = lambda _: {"ok": 0.0, "code": 13, "codeName": "Unauthorized", "errmsg": "not authorized"}
        assert "may not be looked at" in (await examine(client, settings))[-1].seen


@pytest.mark.parametrize("kind", ["routers", "members", "alone"])
async def test_who_is_asked_to_confirm(store_server: Store, kind: str) -> None:
    """A set of several members, whoever stands before it; not a server that nobody can follow."""
    with ReplicaSet(store_server.port) as members:
        members.router = kind == "routers"
        settings = _settings(store_server.url if kind == "alone" else members.url)
        async with open_mongo(settings) as client:
            await client.admin.command("ping")
            documents = durable_collection(client, settings, "inbox")
            assert (confirmed(documents).read_concern == CONFIRMED) == (kind != "alone")
