"""Making the database ready."""

from __future__ import annotations

from router.cursors import Cursors
from router.inbox import Inbox
from router.later import Later
from router.mongo_client import open_mongo
from router.revoked import Revoked
from router.settings import Settings
from router.sharding import shard_collections


async def migrate(settings: Settings) -> None:
    """Make the database ready for this version: its indexes, and where it is a sharded one, the keys of its collections.

    Raises:
        SetupError: when an index stands in the way, or a collection is sharded by another key.
        PyMongoError: when MongoDB cannot be reached.
    """
    async with open_mongo(settings) as client:
        await Inbox(client, settings).make_indexes(settings.idempotency_s)
        await Cursors(client, settings).make_indexes(settings.cursor_idle_s)
        await Later(client, settings).make_indexes()
        await Revoked(client, settings).make_indexes()
        await shard_collections(client, settings)
