"""MongoDB's part: what is stored under a shard's number.

Messages that wait belong to their targets' shard, one document for targets of one; and of the inbox a recovery reads by shard
what was stored lately. All else there goes by target.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pymongo import AsyncMongoClient

from router.mongo_client import cancelled_once, durable_collection
from router.settings import Settings
from router.shards import shard_of_target
from router.stored import Document
from router.waiting import TARGETS_A_DOCUMENT, Waiting, make_waiting_document, read_waiting, waiting_key

_IDS_A_WRITE: Final = 500

_MARGIN_S: Final = 60.0
"""How far clocks may be apart, and a batch's storing behind its time."""


class Stored:
    """What MongoDB holds by shard.

    Args:
        client: where.
        settings: the database, and `recover_window_s`.
    """

    def __init__(self, client: AsyncMongoClient[Document], settings: Settings) -> None:
        self._later = durable_collection(client, settings, "later")
        self._inbox = durable_collection(client, settings, "inbox")
        self._window = timedelta(seconds=settings.recover_window_s + _MARGIN_S)

    async def waiting_keys(self) -> list[str]:
        """Return the `_id` of all that waits.

        Raises:
            PyMongoError: when MongoDB cannot be asked.
        """
        return [one["_id"] async for one in self._later.find({}, {"_id": 1})]

    @cancelled_once
    async def divide(self, key: str, shards: int) -> bool:
        """Put a message that waits where its targets are of so many shards; tell whether it was elsewhere.

        Cut off, it is there twice, which the ids of messages make one again.

        Raises:
            PyMongoError: when it is unknown what has been done; do it again.
        """
        document = await self._later.find_one({"_id": key})
        if document is None:
            return False
        parts = divided(document, shards)
        if [part["_id"] for part in parts] == [key]:
            return False
        for part in parts:
            # Replaced where it stands already: it is the same.
            await self._later.replace_one({"_id": part["_id"]}, part, upsert=True)
        await self._later.delete_one({"_id": key})
        return True

    @cancelled_once
    async def number_recent(self, before: int, shards: int) -> int:
        """Give what was stored lately the number of its target's shard of so many; return how many had another.

        Args:
            before: how many shards there were.
            shards: how many there are to be.

        Raises:
            PyMongoError: when it is unknown what has been done; do it again.
        """
        since = datetime.now(UTC) - self._window
        wanted = {"shard": {"$in": list(range(max(before, shards)))}, "stored_at": {"$gte": since}}
        moved: defaultdict[int, list[str]] = defaultdict(list)
        async for one in self._inbox.find(wanted, {"target": 1, "shard": 1}):
            shard = shard_of_target(one["target"], shards)
            if shard != one["shard"]:
                moved[shard].append(one["_id"])
        for shard, ids in moved.items():
            for first in range(0, len(ids), _IDS_A_WRITE):
                await self._inbox.update_many({"_id": {"$in": ids[first : first + _IDS_A_WRITE]}}, {"$set": {"shard": shard}})
        return sum(map(len, moved.values()))


def divided(document: Document, shards: int) -> list[dict[str, Any]]:
    """Return the documents that a message which waits makes among so many shards."""
    one = read_waiting(document)
    targets: defaultdict[int, list[str]] = defaultdict(list)
    for target in one.targets:
        targets[shard_of_target(target, shards)].append(target)
    return [
        {**make_waiting_document(_part(one, shard, some[first : first + TARGETS_A_DOCUMENT])), "due_at": document["due_at"]}
        for shard, some in targets.items()
        for first in range(0, len(some), TARGETS_A_DOCUMENT)
    ]


def _part(one: Waiting, shard: int, targets: Sequence[str]) -> Waiting:
    key = waiting_key(shard, one.id, targets, one.content)
    return Waiting(
        key=key,
        shard=shard,
        id=one.id,
        targets=tuple(targets),
        content=one.content,
        at_ms=one.at_ms,
        expires_ms=one.expires_ms,
        trace=one.trace,
        carried=one.carried,
        exclude=one.exclude,
        collapse=one.collapse,
    )
