"""MongoDB's `later`: messages that wait for their time, without a place in their target's order.

    _id         "<shard> <message id> <digest of targets and content>", so that an entry appended again is the same document
    shard       the targets'
    id          the message's id
    targets     up to `TARGETS_A_DOCUMENT` of them; a message to more is several documents
    content     as it stands in the frame
    at          Unix ms: not before then
    due_at      the same as a date, by which it is found; `IN_HAND` from when the owner of the shard takes it until it is sent
    expires_at  Unix ms after which it is not delivered, where it says so
    carried, exclude, collapse, trace    where given

The owner of the shard is the only one that adds documents, and that takes them in hand. What is in hand may have its seq and may
be in the inbox already. So it is brought through before anything else of the shard gets a seq, whatever any clock says by then;
and nobody can call it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

import msgspec
from pymongo import ASCENDING, AsyncMongoClient
from pymongo.errors import BulkWriteError, OperationFailure

from router.errors import SetupError
from router.mongo_client import cancelled_once, durable_collection, timed
from router.settings import Settings
from router.stored import Document

DUE_INDEX: Final = "shard_due_at"
ID_INDEX: Final = "id"
TARGETS_INDEX: Final = "targets"

IN_HAND: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""`due_at` of what is being sent: before every time that is due."""

TARGETS_A_DOCUMENT: Final = 1_000
"""A document holds 16 MiB, most of which may be content; and a batch of due messages is made of whole documents."""

DOCUMENTS_A_BATCH: Final = 128
"""Most documents taken in hand at once: their `_id`s make one query; see `router.inbox.IDS_A_QUERY`."""

_SPANS: Final = (timedelta(), timedelta(minutes=10), timedelta(hours=12), timedelta(days=30))
"""How far ahead the next due one is looked for, one after the other, and then without end. The embedded store reads all that
lies in the span."""

_DIGEST_BYTES: Final = 8
_DUPLICATE_KEY: Final = 11000
_INDEX_CONFLICTS: Final = frozenset({85, 86})


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """A message that waits, for targets of one shard.

    Attributes:
        key: its `_id`.
        shard: the targets'.
        id: the message's id.
        targets: whose.
        content: as it stands in the frame.
        at_ms: Unix ms before which it is not sent.
        expires_ms: Unix ms after which it is not delivered; None when only retention ends it.
        trace: every stage is to tell of it.
        carried: traceparent and x-* fields.
        exclude: whom it passes by; "" for nobody.
        collapse: its key; "" for none.
        in_hand: it is being sent, and cannot be called back.
    """

    key: str
    shard: int
    id: str
    targets: tuple[str, ...]
    content: str
    at_ms: int
    expires_ms: int | None = None
    trace: bool = False
    carried: tuple[tuple[str, str], ...] = ()
    exclude: str = ""
    collapse: str = ""
    in_hand: bool = False


class Cancelled(msgspec.Struct, frozen=True):
    """What was called back.

    Attributes:
        targets: how many targets it will not be sent to.
        sending: how many it is just being sent to, which cannot be called back.
    """

    targets: int
    sending: int


def waiting_key(shard: int, message_id: str, targets: Sequence[str], content: str) -> str:
    """Return the `_id` of a message that waits for these targets."""
    told = f"{','.join(targets)} {content}".encode()
    return f"{shard} {message_id} {blake2b(told, digest_size=_DIGEST_BYTES).hexdigest()}"


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
            await self._documents.insert_many([_document(one) for one in waiting], ordered=False)
        except BulkWriteError as exc:
            errors = exc.details["writeErrors"]
            if exc.details["writeConcernErrors"] or any(error["code"] != _DUPLICATE_KEY for error in errors):
                raise

    @timed("later_next")
    @cancelled_once
    async def next_due_ms(self, shard: int, now_ms: int) -> int | None:
        """Return when the first of a shard is due, Unix ms: 0 while some are in hand, None when nothing waits."""
        now = _time_of(now_ms)
        ends = [{"$lte": now + span} for span in _SPANS]
        for end in [*ends, {"$gte": IN_HAND}]:
            first = await self._documents.find_one({"shard": shard, "due_at": end}, {"due_at": 1}, sort=[("due_at", ASCENDING)])
            if first is not None:
                return int(first["due_at"].timestamp() * 1000)
        return None

    @timed("later_take")
    @cancelled_once
    async def take(self, shard: int, now_ms: int, most: int, most_bytes: int) -> list[Waiting]:
        """Take the first due ones of a shard in hand and return all that is in hand, by time; those alone, where any are.

        Args:
            shard: its number.
            now_ms: Unix ms.
            most: most targets to take in hand, passed by those of one document.
            most_bytes: most bytes of content, once a target, passed by one document.

        Raises:
            PyMongoError: when it is unknown what is in hand; take again.
        """
        if in_hand := await self._in_hand(shard):
            return in_hand
        keys = await self._first_due(shard, _time_of(now_ms), most, most_bytes)
        if not keys:
            return []
        await self._documents.update_many({"_id": {"$in": keys}}, {"$set": {"due_at": IN_HAND}})
        # Asked, not concluded: somebody may have called one back meanwhile.
        return await self._in_hand(shard)

    async def _first_due(self, shard: int, now: datetime, most: int, most_bytes: int) -> list[str]:
        keys: list[str] = []
        count = size = 0
        wanted = {"shard": shard, "due_at": {"$lte": now}}
        fields = {"targets": 1, "content": 1}
        found = self._documents.find(wanted, fields).sort("due_at", ASCENDING).limit(DOCUMENTS_A_BATCH)
        async with found:
            async for document in found:
                keys.append(document["_id"])
                count += len(document["targets"])
                size += len(document["targets"]) * len(document["content"])
                if count >= most or size >= most_bytes:
                    break
        return keys

    async def _in_hand(self, shard: int) -> list[Waiting]:
        # Without a limit: it is one batch, and at most one more of an owner that has lost its lease since.
        found = await self._documents.find({"shard": shard, "due_at": IN_HAND}).to_list()
        return sorted(map(_waiting, found), key=lambda one: (one.at_ms, one.key))

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
        found = await self._documents.find({"id": message_id}).to_list()
        return sorted(map(_waiting, found), key=lambda one: (one.at_ms, one.key))

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
        missing = {DUE_INDEX, ID_INDEX, TARGETS_INDEX} - (await self._documents.index_information()).keys()
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


def _document(one: Waiting) -> Document:
    document: dict[str, Any] = {
        "_id": one.key,
        "shard": one.shard,
        "id": one.id,
        "targets": list(one.targets),
        "content": one.content,
        "at": one.at_ms,
        "due_at": _time_of(one.at_ms),
    }
    if one.expires_ms is not None:
        document["expires_at"] = one.expires_ms
    more = {"carried": dict(one.carried), "exclude": one.exclude, "collapse": one.collapse, "trace": one.trace}
    return document | {name: value for name, value in more.items() if value}


def _waiting(document: Document) -> Waiting:
    expires_ms = document.get("expires_at")
    return Waiting(
        key=document["_id"],
        shard=int(document["shard"]),
        id=document["id"],
        targets=tuple(document["targets"]),
        content=document["content"],
        at_ms=int(document["at"]),
        expires_ms=None if expires_ms is None else int(expires_ms),
        trace=document.get("trace", False),
        carried=tuple(document.get("carried", {}).items()),
        exclude=document.get("exclude", ""),
        collapse=document.get("collapse", ""),
        in_hand=document["due_at"] == IN_HAND,
    )


def _time_of(unix_ms: int) -> datetime:
    # Whole ms, which a float of seconds would not always give back.
    return IN_HAND + timedelta(milliseconds=unix_ms)
