"""A sharded MongoDB: by what its collections are divided. Not Pushway's own shards, which MongoDB knows nothing of.

MongoDB keeps an `_id`, and any other unique index, unique within a shard of its own only. So whatever has the same `_id` has to
lie on the same shard, and the key may say nothing that the `_id` does not:

    inbox          target, hashed    an `_id` begins with the target, and the unique index (target, seq) does; a replay asks one
                                     shard. By target and seq one id of a producer could be stored twice, on two shards
    later          id, hashed        an `_id` has the id in it, and who calls a message back names it
    bodies, cursors, subscriptions
                   _id, hashed       each write names it

A target is not divided: all that is kept of it is on one shard, and the largest topic is to fit there. The collections of a few
documents, `revoked` and `eras`, stay on the database's primary shard.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pymongo import HASHED, AsyncMongoClient
from pymongo.errors import OperationFailure

from router.errors import SetupError
from router.mongo_client import Document, cancelled_once
from router.settings import Settings

SHARD_KEYS: Final = {"inbox": "target", "later": "id", "bodies": "_id", "cursors": "_id", "subscriptions": "_id"}
"""Collection → the field whose hash divides it."""

Key = Mapping[str, Any]
"""What divides a collection, as MongoDB says it: {field: "hashed"}, or {field: 1, …}."""

_ALREADY_SHARDED: Final = 23  # AlreadyInitialized: by another key


@cancelled_once
async def shard_collections(client: AsyncMongoClient[Document], settings: Settings) -> bool:
    """Divide the collections, where the server is a router of a sharded cluster; tell whether it is. May be repeated.

    Behind the making of all other indexes: MongoDB looks then whether the unique ones go with the key.

    Raises:
        SetupError: when a collection is sharded by another key.
        PyMongoError: when it is unknown what has been done; call again.
    """
    hello: dict[str, Any] = await client.admin.command("hello")
    if hello.get("msg") != "isdbgrid":
        return False
    database = client[settings.mongo_database]
    await client.admin.command("enableSharding", database.name)  # which routers before 6.0 want
    for name, field in SHARD_KEYS.items():
        # Without documents MongoDB would make it; with some it must be there.
        await database[name].create_index([(field, HASHED)])
        try:
            await client.admin.command("shardCollection", f"{database.name}.{name}", key={field: HASHED})
        except OperationFailure as exc:
            if exc.code != _ALREADY_SHARDED:
                raise
            wanted = f'{{{field}: "hashed"}}'
            raise SetupError(f"{name} is sharded by another key than {wanted}: reshardCollection changes it ({exc})") from exc
    return True


async def read_shard_keys(client: AsyncMongoClient[Document], settings: Settings) -> dict[str, Key]:
    """Return collection → its key, of those that are to be divided and are, in a sharded cluster.

    Raises:
        OperationFailure: when the user may not read that (role `clusterMonitor`).
        PyMongoError: when it cannot be asked.
    """
    names = {f"{settings.mongo_database}.{name}": name for name in SHARD_KEYS}
    # `dropped` is of routers before 5.0.
    found = client.config["collections"].find({"_id": {"$in": [*names]}, "dropped": {"$ne": True}})
    return {names[one["_id"]]: one["key"] async for one in found}
