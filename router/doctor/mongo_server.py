"""MongoDB: that a write which it acknowledges is safe, and that indexes and shard keys are what they are to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pymongo import HASHED, AsyncMongoClient
from pymongo.errors import OperationFailure

from router.cursors import IDLE_INDEX
from router.doctor.findings import Finding, error, note, ok, warning
from router.inbox import ID_INDEX, ORDER_INDEX, RECENT_INDEX, TTL_INDEX
from router.later import INDEXES
from router.mongo_client import Document, brief, cancelled_once
from router.revoked import INDEXES as OF_REVOKED
from router.revoked import TTL_INDEX as REVOKED_TTL
from router.settings import Settings
from router.sharding import SHARD_KEYS, Key, read_shard_keys

Indexes = Mapping[str, Mapping[str, Any]]

_MAKE: Final = "run `pushway migrate`"


@cancelled_once
async def examine(client: AsyncMongoClient[Document], settings: Settings) -> list[Finding]:
    """Return what is to be thought of a MongoDB.

    Raises:
        PyMongoError: when it cannot be asked.
    """
    database = client[settings.mongo_database]
    build: dict[str, Any] = await client.server_info()
    hello = await client.admin.command("hello")
    inbox = await database.inbox.index_information()
    cursors = await database.cursors.index_information()
    bodies = await database.bodies.index_information()
    later = set(await database.later.index_information())
    judged = judge_indexes(inbox, cursors, bodies, settings)
    judged += [*_missing("later", set(INDEXES - later)), *judge_revoked(await database.revoked.index_information())]
    if _is_router(hello):
        judged += await _sharding(client, settings)
    return [*judge_server(str(build["version"]), hello), *judged]


def _is_router(hello: Mapping[str, Any]) -> bool:
    return hello.get("msg") == "isdbgrid"


async def _sharding(client: AsyncMongoClient[Document], settings: Settings) -> list[Finding]:
    try:
        return judge_sharding(await read_shard_keys(client, settings))
    except OperationFailure as exc:
        return [note(f"by what the collections are sharded may not be looked at ({brief(exc)})", "the role clusterMonitor may")]


def judge_server(version: str, hello: Mapping[str, Any]) -> list[Finding]:
    """Return what is to be thought of a server, given its answer to `hello`."""
    router = _is_router(hello)
    if not router and not hello.get("isWritablePrimary", hello.get("ismaster")):
        return [
            error(
                f"MongoDB {version}: this member takes no writes",
                "let mongo_url name the replica set (replicaSet=…) without directConnection, so that the primary is found",
            )
        ]
    found = [ok(f"MongoDB {version}, {'through mongos' if router else hello.get('setName', 'no replica set')}")]
    members = len(hello.get("hosts", ()))
    if not router and members <= 1:
        found.append(
            note(
                "there is one member: what it acknowledges is on one disk, and while it is away nothing is accepted",
                "a replica set of three members outlives one of them",
            )
        )
    return found


def judge_indexes(inbox: Indexes, cursors: Indexes, bodies: Indexes, settings: Settings) -> list[Finding]:
    """Return what is to be thought of the indexes, as `index_information` tells of them."""
    found = [*_missing("inbox", {ORDER_INDEX, TTL_INDEX, RECENT_INDEX, ID_INDEX} - inbox.keys())]
    found += _missing("cursors", {IDLE_INDEX} - cursors.keys())
    found += _missing("bodies", {TTL_INDEX} - bodies.keys())
    if ORDER_INDEX in inbox and not inbox[ORDER_INDEX].get("unique"):
        found.append(error(f"the index {ORDER_INDEX} is not unique: two messages may take one place", f"drop it, then {_MAKE}"))
    found += _lives("inbox", TTL_INDEX, inbox, "idempotency_s", settings.idempotency_s)
    found += _lives("bodies", TTL_INDEX, bodies, "idempotency_s", settings.idempotency_s)
    found += _lives("cursors", IDLE_INDEX, cursors, "cursor_idle_s", settings.cursor_idle_s)
    return found or [ok("the indexes stand, and remove what the settings say")]


def judge_revoked(indexes: Indexes) -> list[Finding]:
    """Return what is to be thought of the indexes of `revoked`, if anything is."""
    found = [*_missing("revoked", set(OF_REVOKED - indexes.keys()))]
    if REVOKED_TTL in indexes and indexes[REVOKED_TTL].get("expireAfterSeconds") != 0:
        text = f"the index {REVOKED_TTL} of revoked does not remove a revocation when it is over"
        found.append(error(text, f"drop it, then {_MAKE}"))
    return found


def judge_sharding(keys: Mapping[str, Key]) -> list[Finding]:
    """Return what is to be thought of a sharded cluster, given collection → its key, of those that have one."""
    found = []
    for name, field in SHARD_KEYS.items():
        wanted = f'{{{field}: "hashed"}}'
        if name not in keys:
            seen = f"{name} is not sharded: all of it lies on one shard of MongoDB"
            found.append(warning(seen, _MAKE))
        elif dict(keys[name]) != {field: HASHED}:
            told = f"{name} is sharded by {dict(keys[name])} and not by {wanted}"
            seen = f"{told}: an id may be there twice, and reads ask all shards"
            found.append(error(seen, f"sh.reshardCollection, to {wanted}; until then `pushway migrate` fails"))
    return found or [ok("each collection that grows is sharded by its key")]


def _missing(collection: str, names: set[str]) -> Iterator[Finding]:
    if names:
        yield error(f"{collection} lacks the index {', '.join(sorted(names))}", _MAKE)


def _lives(collection: str, name: str, indexes: Indexes, setting: str, wanted_s: float) -> Iterator[Finding]:
    """Judge after how long an index removes documents."""
    if name not in indexes:
        return
    found_s = indexes[name].get("expireAfterSeconds")
    if found_s is None:
        yield error(f"the index {name} of {collection} removes nothing: it will grow for ever", f"drop it, then {_MAKE}")
    elif int(found_s) != int(wanted_s):
        change = f'{{collMod: "{collection}", index: {{name: "{name}", expireAfterSeconds: {int(wanted_s)}}}}}'
        yield warning(
            f"the index {name} of {collection} removes after {int(found_s):,} s, and {setting} is {int(wanted_s):,}",
            f"db.runCommand({change}), or set {setting}={int(found_s)}",
        )
