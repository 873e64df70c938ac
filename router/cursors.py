"""MongoDB's `cursors`: the last seq that a device has of a target, kept for the device.

    _id                   "<user> <device> <target>"
    user, device, target  whose it is, and of what
    seq                   everything up to it has been handled; it never goes back
    began                 the seq that a device new to the target began behind; not there where it came with a cursor of its own
    seen_at               when the device last came or acknowledged; a TTL index removes it `cursor_idle_s` later

A cursor is removed long after the messages behind it are, so that a device which comes back late is told what it has lost
rather than taken for a new one (`router.settings` sees to it).

Writes wait for a majority and for the journal, like those of the inbox. An older cursor only makes a message come twice; a
newer one than the device's own would lose messages, so nothing but what the device has acknowledged is ever written, save
where it begins.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from pymongo import ASCENDING, AsyncMongoClient, UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure

from router.errors import SetupError
from router.mongo_client import cancelled_once, durable_collection, timed
from router.settings import Settings

IDLE_INDEX: Final = "seen_at"

_DUPLICATE_KEY: Final = 11000
_INDEX_CONFLICTS: Final = frozenset({85, 86})
"""IndexOptionsConflict and IndexKeySpecsConflict: an index of that name stands there with other options."""

_SEQ_MAX: Final = 2**53 - 1
"""As in `edge.client_frames`."""

_UPSERT_TRIES: Final = 3
"""Two upserts of one new `_id` may both try to insert; the loser finds the document when it tries again."""


class CursorKey(NamedTuple):
    """Whose cursor, and of which target's order."""

    user: str
    device: str
    target: str

    @property
    def id(self) -> str:
        """The document's `_id`; ids have no spaces in them."""
        return " ".join(self)


class DeviceCursor(NamedTuple):
    """Up to where a device has handled a target's messages, from where on they were its own, and when it was last seen."""

    device: str
    seq: int
    began: int
    seen_at: datetime


class KeptCursor(NamedTuple):
    """Up to where a device has handled a target's messages, and when it was last seen."""

    device: str
    target: str
    seq: int
    seen_at: datetime


class Cursors:
    """The cursors of one database."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]], settings: Settings) -> None:
        self._documents = durable_collection(client, settings, "cursors")

    @timed("cursors_find")
    @cancelled_once
    async def find(self, keys: Collection[CursorKey]) -> dict[CursorKey, int]:
        """Return the cursors that there are. A document that somebody has spoilt is one device's trouble: it is left out."""
        ids = {key.id: key for key in keys}
        found = self._documents.find({"_id": {"$in": list(ids)}, "seq": {"$gte": 0, "$lte": _SEQ_MAX}}, {"seq": 1})
        return {ids[document["_id"]]: int(document["seq"]) async for document in found}

    @timed("cursors_of_user")
    @cancelled_once
    async def of_user(self, user: str, target: str, most: int) -> list[DeviceCursor]:
        """Return the cursors of up to `most` devices of a user in a target's order, by device."""
        wanted = {**_of_user(user), "target": target, "seq": {"$gte": 0}}
        found = self._documents.find(wanted).sort("_id", ASCENDING).limit(most)
        return [
            DeviceCursor(document["device"], int(document["seq"]), int(document.get("began", 0)), document["seen_at"])
            async for document in found
        ]

    @cancelled_once
    async def all_of_user(self, user: str, most: int) -> list[KeptCursor]:
        """Return up to `most` cursors of a user, whatever the target, by device and target."""
        found = self._documents.find({**_of_user(user), "seq": {"$gte": 0}}).sort("_id", ASCENDING).limit(most)
        return [
            KeptCursor(document["device"], document["target"], int(document["seq"]), document["seen_at"])
            async for document in found
        ]

    @cancelled_once
    async def forget(self, user: str) -> int:
        """Remove all cursors of a user, durably, and return how many those were.

        Raises:
            PyMongoError: when it is unknown which are gone; forget again.
        """
        return (await self._documents.delete_many(_of_user(user))).deleted_count

    @timed("cursors_begin")
    @cancelled_once
    async def begin(self, seqs: Mapping[CursorKey, int]) -> dict[CursorKey, int]:
        """Begin cursors where there are none yet, durably, and return what stands: somebody else may have been faster.

        Raises:
            PyMongoError: when it is unknown what stands; begin again.
        """
        keys = list(seqs)
        now = datetime.now(UTC)
        updates = [UpdateOne({"_id": key.id}, {"$setOnInsert": _whole(key, seqs[key], now)}, upsert=True) for key in keys]
        ours = {keys[index] for index in await self._upsert(updates)}
        others = [key for key in keys if key not in ours]
        return {key: seqs[key] for key in ours} | (await self.find(others) if others else {})

    @timed("cursors_advance")
    @cancelled_once
    async def advance(self, seqs: Mapping[CursorKey, int]) -> None:
        """Move cursors forward, durably, and note that their devices were seen; a lower seq moves nothing back.

        Raises:
            PyMongoError: when it is unknown which have moved; move them again.
        """
        now = datetime.now(UTC)
        await self._upsert(
            [
                UpdateOne(
                    {"_id": key.id},
                    {"$max": {"seq": seq}, "$set": {"seen_at": now}, "$setOnInsert": key._asdict()},
                    upsert=True,
                )
                for key, seq in seqs.items()
            ]
        )

    async def _upsert(self, updates: list[UpdateOne]) -> list[int]:
        """Carry out the updates in one bulk, and return the indexes of those that inserted.

        Raises:
            PyMongoError: when it is unknown which were carried out.
        """
        for tries_left in reversed(range(_UPSERT_TRIES)):
            try:
                result = await self._documents.bulk_write(updates, ordered=False)
            except BulkWriteError as exc:
                # Whatever was inserted in a try that failed counts as found in the next: both are as the caller wishes.
                if not tries_left or not _only_duplicates(exc):
                    raise
            else:
                return list(result.upserted_ids or ())
        raise AssertionError("the last try returns or raises")

    @cancelled_once
    async def make_indexes(self, idle_s: float) -> None:
        """Make the index that removes cursors of devices not seen for so long; one that stands already is left as it is.

        Raises:
            SetupError: when one of that name has another time.
            PyMongoError: when MongoDB cannot be asked.
        """
        try:
            await self._documents.create_index("seen_at", name=IDLE_INDEX, expireAfterSeconds=int(idle_s))
        except OperationFailure as exc:
            if exc.code not in _INDEX_CONFLICTS:
                raise
            raise SetupError(f"an index of the cursors stands there with other options; drop it first: {exc}") from exc


def _of_user(user: str) -> dict[str, Any]:
    # Ids have no spaces, and "!" is the character behind one: this is all that begins with "<user> ".
    return {"_id": {"$gt": f"{user} ", "$lt": f"{user}!"}}


def _whole(key: CursorKey, seq: int, now: datetime) -> dict[str, Any]:
    return {**key._asdict(), "seq": seq, "began": seq, "seen_at": now}


def _only_duplicates(exc: BulkWriteError) -> bool:
    errors = exc.details["writeErrors"]
    return not exc.details["writeConcernErrors"] and all(error["code"] == _DUPLICATE_KEY for error in errors)
