"""MongoDB's `eras`: the Redis that each shard was last worked on, where no Redis can forget it.

    _id      the shard's number
    server   Redis' replication id
    number   the era's number, which only ever rises

Redis' own note of it (`push:{s}:era`) is not enough. A primary that was cut off, or frozen, may become one again after another
has served in its place: it comes back under the name that it had, with its own note of the era, and knows nothing of what was
stored meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pymongo import AsyncMongoClient
from pymongo.errors import DuplicateKeyError

from router.mongo_client import cancelled_once, confirmed, durable_collection
from router.settings import Settings


@dataclass(frozen=True, slots=True)
class Era:
    """A time in which Redis has forgotten nothing.

    Attributes:
        server: Redis' replication id.
        number: above that of every era before.
    """

    server: str
    number: int


NONE_YET: Final = Era("", 0)


class Eras:
    """The last era of each shard."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]], settings: Settings) -> None:
        self._documents = durable_collection(client, settings, "eras")

    @cancelled_once
    async def last(self, shard: int) -> Era:
        """Return a shard's last era, or `NONE_YET`.

        Raises:
            PyMongoError: when MongoDB cannot be asked.
        """
        document = await confirmed(self._documents).find_one({"_id": shard})
        return Era(document["server"], int(document["number"])) if document else NONE_YET

    @cancelled_once
    async def note(self, shard: int, era: Era) -> bool:
        """Make an era the shard's last; tell whether that was possible: a higher one stays.

        Raises:
            PyMongoError: when it is unknown whether it was noted.
        """
        lower = {"_id": shard, "number": {"$lt": era.number}}
        try:
            await self._documents.update_one(lower, {"$set": {"server": era.server, "number": era.number}}, upsert=True)
        except DuplicateKeyError:
            # No lower one was found, so another was to be made, of the same _id.
            return False
        return True
