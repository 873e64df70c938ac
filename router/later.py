"""MongoDB's `later`: messages that wait for their time, without a place in their target's order; see `router.waiting`.

The owner of the shard is the only one that adds documents, and that takes them in hand. What is in hand may have its seq, and
may be in the inbox already. So it is brought through before anything else of the shard gets a seq, whatever any clock says by
then; and nobody can call it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

import msgspec
from pymongo import ASCENDING, AsyncMongoClient
from pymongo.errors import BulkWriteError, OperationFailure

from router.errors import SetupError
from router.mongo_client import cancelled_once, confirmed, durable_collection, timed
from router.settings import Settings
from router.stored import Document
from router.waiting import IN_HAND, Waiting, in_order, make_waiting_document, read_waiting, time_of

DUE_INDEX: Final = "shard_due_at"
ID_INDEX: Final = "id"
TARGETS_INDEX: Final = "targets"
INDEXES: Final = frozenset({DUE_INDEX, ID_INDEX, TARGETS_INDEX})

DOCUMENTS_A_BATCH: Final = 128
"""Most documents taken in hand at once: their `_id`s make one query; see `router.inbox.IDS_A_QUERY`."""

DUE_MAX: Final = 4_096
"""Most that are found due in one look: for each the embedded store reads all that are, and everybody's reminders may be due at
nine."""

_SPANS: Final = (timedelta(), timedelta(minutes=10), timedelta(hours=12), timedelta(days=30))
"""How far ahead the next due one is looked for, one after the other, and then without end. The embedded store reads all that
lies in the span."""

_DUPLICATE_KEY: Final = 11000
_INDEX_CONFLICTS: Final = frozenset({85, 86})


class Due(NamedTuple):
    """A document whose time has come.

    Attributes:
        key: its `_id`.
        targets: how many, before any was forgotten.
        size: how many bytes of content, once for each of them.
        in_hand: it has been taken in hand, and not sent.
    """

    key: str
    targets: int
    size: int
    in_hand: bool


class Cancelled(msgspec.Struct, frozen=True):
    """What was called back.

    Attributes:
        targets: how many targets it will not be sent to.
        sending: how many it is just being sent to, which cannot be called back.
    """

    targets: int
    sending: int


class Later:
    """What waits in one database."""

    def __init__(self, client: AsyncMongoClient[Document], settings: Settings) -> None:
        self._documents = durable_collection(client, settings, "later")

    @timed("later_keep")
    @cancelled_once
    async def keep(self, waiting: Sequence[Waiting]) -> None:
        """Store what waits, durably; what is there already stays as it is.

        Raises:
            PyMongoError: when it is unknown what has been stored; keep the same again.
        """
        try:
            await self._documents.insert_many([make_waiting_document(one) for one in waiting], ordered=False)
        except BulkWriteError as exc:
            errors = exc.details["writeErrors"]
            if exc.details["writeConcernErrors"] or any(error["code"] != _DUPLICATE_KEY for error in errors):
                raise

    @timed("later_next")
    @cancelled_once
    async def next_due_ms(self, shard: int, now_ms: int) -> int | None:
        """Return when the first of a shard is due, Unix ms: 0 while some are in hand, None when nothing waits."""
        now, documents = time_of(now_ms), confirmed(self._documents)
        ends = [{"$lte": now + span} for span in _SPANS]
        for end in [*ends, {"$gte": IN_HAND}]:
            first = await documents.find_one({"shard": shard, "due_at": end}, {"due_at": 1}, sort=[("due_at", ASCENDING)])
            if first is not None:
                return int(first["due_at"].timestamp() * 1000)
        return None

    @timed("later_due")
    @cancelled_once
    async def due(self, shard: int, now_ms: int) -> list[Due]:
        """Return the first of a shard whose time has come, by time, up to `DUE_MAX`; what is in hand comes first.

        Args:
            shard: its number.
            now_ms: Unix ms.
        """
        wanted = {"shard": shard, "due_at": {"$lte": time_of(now_ms)}}
        found = self._documents.find(wanted, {"load": 1, "due_at": 1}).sort("due_at", ASCENDING).limit(DUE_MAX)
        return [Due(one["_id"], int(one["load"][0]), int(one["load"][1]), one["due_at"] == IN_HAND) async for one in found]

    @timed("later_take")
    @cancelled_once
    async def take_in_hand(self, shard: int, keys: Sequence[str]) -> list[Waiting]:
        """Take some in hand, up to `DOCUMENTS_A_BATCH`, and return all that is in hand of the shard, by time.

        Those that have been called back meanwhile are not among them.

        Raises:
            PyMongoError: when it is unknown what is in hand; take again.
        """
        if keys:
            await self._documents.update_many({"_id": {"$in": list(keys)}}, {"$set": {"due_at": IN_HAND}})
        # Without a limit: it is one batch, and at most one more of an owner that has lost its lease since.
        found = await self._documents.find({"shard": shard, "due_at": IN_HAND}).to_list()
        return in_order(map(read_waiting, found))

    @timed("later_sent")
    @cancelled_once
    async def sent(self, keys: Sequence[str]) -> None:
        """Remove what has been sent.

        Raises:
            PyMongoError: when it is unknown what has been removed; it is sent again then, under the seqs that it has.
        """
        for first in range(0, len(keys), DOCUMENTS_A_BATCH):
            await self._documents.delete_many({"_id": {"$in": list(keys[first : first + DOCUMENTS_A_BATCH])}})

    @timed("later_cancel")
    @cancelled_once
    async def cancel(self, message_id: str) -> Cancelled:
        """Call a message back wherever it waits; what is being sent is sent.

        Raises:
            PyMongoError: when it is unknown what has been called back; cancel again.
        """
        targets = 0
        while document := await self._documents.find_one_and_delete({"id": message_id, "due_at": {"$gt": IN_HAND}}):
            targets += len(document["targets"])
        sending = [len(one.targets) for one in await self._with_id(message_id) if one.in_hand]
        return Cancelled(targets, sum(sending))

    @timed("later_with_id")
    @cancelled_once
    async def waiting_with_id(self, message_id: str) -> list[Waiting]:
        """Return what waits of the message of this id, by time."""
        return await self._with_id(message_id)

    async def _with_id(self, message_id: str) -> list[Waiting]:
        found = await confirmed(self._documents).find({"id": message_id}).to_list()
        return in_order(map(read_waiting, found))

    @timed("later_forget")
    @cancelled_once
    async def forget(self, target: str) -> int:
        """Take a target out of all that waits, durably, and return how many messages it waited for.

        Raises:
            PyMongoError: when it is unknown what has been done; forget again.
        """
        alone = await self._documents.delete_many({"targets": [target]})
        shared = await self._documents.update_many({"targets": target}, {"$pull": {"targets": target}})
        return alone.deleted_count + shared.modified_count

    @cancelled_once
    async def check(self) -> None:
        """Refuse a database without the indexes by which what is due is found.

        Raises:
            SetupError: with what to do about it.
            PyMongoError: when MongoDB cannot be asked.
        """
        missing = INDEXES - (await self._documents.index_information()).keys()
        if missing:
            raise SetupError(f"MongoDB's later lacks the index {', '.join(sorted(missing))}: run `pushway migrate` first.")

    @cancelled_once
    async def make_indexes(self) -> None:
        """Make the indexes; those that stand already are left as they are.

        Raises:
            SetupError: when one of that name has other options.
            PyMongoError: when MongoDB cannot be asked.
        """
        try:
            await self._documents.create_index([("shard", ASCENDING), ("due_at", ASCENDING)], name=DUE_INDEX)
            await self._documents.create_index("id", name=ID_INDEX)
            await self._documents.create_index("targets", name=TARGETS_INDEX)
        except OperationFailure as exc:
            if exc.code not in _INDEX_CONFLICTS:
                raise
            raise SetupError(f"an index of later stands there with other options; drop it first: {exc}") from exc
