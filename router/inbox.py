"""MongoDB's `inbox`: one document a message and target (`router.stored`), stored before anybody is told.

What many targets share of a message stands in `bodies` (`router.bodies`); only who stores and who settles a batch has to know.

The driver gives a seq back as its own kind of int, which not every encoder takes: it is made a plain one here.

Writes wait for a majority and for the journal: a message counts as accepted when they are through, and not before.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final

from pymongo import ASCENDING, DESCENDING, AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, ExecutionTimeout, OperationFailure

from router.bodies import Bodies, WithBodies
from router.collapse import Ahead, collapsed, latest_ends
from router.errors import SetupError
from router.inbox_bson import encode
from router.mongo_client import CONFIRMED, cancelled_once, confirmed, durable_collection, timed
from router.own_inserts import OwnInserts
from router.settings import Settings
from router.stored import Body, Document, Insertion, Kept, Keyed, Page, Recent, Stored, Traced

ORDER_INDEX: Final = "target_seq"
ID_INDEX: Final = "id"
TTL_INDEX: Final = "expires_at"
RECENT_INDEX: Final = "shard_stored_at_seq"

_DUPLICATE_KEY: Final = 11000
_INDEX_CONFLICTS: Final = frozenset({85, 86})
"""IndexOptionsConflict and IndexKeySpecsConflict: an index of that name stands there with other options."""

_PERMANENT: Final = frozenset({2, 9, 14, 22, 121, 10334, 17280, 17282})
"""Write errors that no second try mends: BadValue, FailedToParse, TypeMismatch, InvalidBSON, DocumentValidationFailure,
BSONObjectTooLarge and a key too long for an index. Any other is the server's own trouble (a shard of it is away, say).
Source: https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
"""

IDS_A_QUERY: Final = 128
"""Most ids in one query. To the embedded store those that are stored cost the square of their number: all of a batch at once
would take longer than `mongo_timeout_s`, and so would every further try.
"""

_NEW_MAX_MS: Final = 100
"""How long the store may look for ids of which hardly any is expected. The embedded one minds it only where some are stored: it
looks at the clock with every 64th."""

_NEWEST_SPANS_US: Final = (600_000_000, 43_200_000_000, 2_592_000_000_000, 2**53)
"""How far back a target's newest message is looked for, one after the other: ten minutes, half a day, thirty days, everything.
The embedded store reads all that lies in the span, and a target may have a hundred thousand; seqs are microseconds.
"""

_NEWER_SPANS_US: Final = (1_000_000, 60_000_000, *_NEWEST_SPANS_US)
"""The same for newer messages of a key, which mostly came a moment ago if they came at all."""

_FORGET_MAX: Final = 20_000
"""Most messages that one look finds to be removed: for each look the embedded store reads all that the target has."""

_FORGET_PART: Final = 500
"""Most messages removed in one write, a span of seqs. By their ids it would take the embedded store several times as long."""

_TARGETS_A_QUERY: Final = 256
"""Most targets in one query for the newest."""

_FEW: Final = 512
"""Most messages that are read to find the newest of several targets at once: of the index alone, a millisecond."""

_FEW_MAX_MS: Final = 20
"""How long the store may look for those. The embedded one reads all that the targets ever had, however many are wanted."""

_CONFIRM_MS: Final = 500
"""How much longer it may take where the other members are asked, too. No such set is the embedded store."""


class Inbox:
    """The inbox of one database."""

    def __init__(self, client: AsyncMongoClient[Document], settings: Settings) -> None:
        self._documents = durable_collection(client, settings, "inbox")
        self._bodies = Bodies(client, settings)
        self._own = OwnInserts(self._documents, settings.mongo_timeout_s)

    @timed("insert")
    async def insert(self, documents: Sequence[Document], bodies: Sequence[Document] = ()) -> Insertion:
        """Store what is new, durably, in the order given: whoever reads a target never sees a seq before a lower one.

        One bulk insert, where all of it is new. An ordered one ends at the first document that is not; what stands there
        already is looked up then and left out, so that a batch of repeats is not inserted one by one.

        Args:
            documents: of `make_document`.
            bodies: of `make_body_document`, those that the documents refer to; stored before them.

        Returns:
            Which documents were not stored, and why; all others are.

        Raises:
            PyMongoError: when it is unknown what has been stored; insert the same documents again.
        """
        if bodies:
            await self._bodies.store(bodies)
        reply = await self._own.insert(encode(documents)) if documents else {}
        if reply is not None and "writeErrors" not in reply:
            return Insertion()
        return await self._insert(documents, reply)

    @cancelled_once
    async def _insert(self, documents: Sequence[Document], reply: Document | None) -> Insertion:
        """Insert by way of the driver what is left; `reply` is what MongoDB has said already, None when nothing is known."""
        outcome = Insertion()
        left = list(range(len(documents)))
        errors: Sequence[Document] = [] if reply is None else reply["writeErrors"]
        while left and (errors := errors or await self._errors_of([documents[index] for index in left])):
            at = _note_error(errors, left, outcome)
            # The first time only: what turns up later was stored meanwhile, or has the seq alone.
            known = await self._known(documents, left[at + 1 :]) if len(outcome.taken) == 1 else set()
            outcome.taken |= known
            left = [index for index in left[at + 1 :] if index not in known]
            errors = []
        await self._own.open()
        return outcome

    async def _errors_of(self, documents: Sequence[Document]) -> Sequence[Document]:
        """Insert by way of the driver, and return which document it ended at; none when it has not."""
        try:
            await self._documents.insert_many(documents)
        except BulkWriteError as exc:
            if exc.details["writeConcernErrors"]:
                raise
            errors: Sequence[Document] = exc.details["writeErrors"]
            return errors
        return ()

    async def _known(self, documents: Sequence[Document], indexes: Sequence[int]) -> set[int]:
        """Return which of these documents have an `_id` that stands there already."""
        ids = [documents[index]["_id"] for index in indexes]
        known = {document["_id"] async for document in self._with_ids(confirmed(self._documents), ids, {"_id": 1})}
        return {index for index in indexes if documents[index]["_id"] in known}

    @staticmethod
    async def _with_ids(
        documents: AsyncCollection[Document], ids: Sequence[str], fields: dict[str, int] | None = None
    ) -> AsyncGenerator[Document]:
        for first in range(0, len(ids), IDS_A_QUERY):
            some = list(ids[first : first + IDS_A_QUERY])
            async for document in documents.find({"_id": {"$in": some}}, fields):
                yield document

    @timed("find")
    @cancelled_once
    async def find(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Return what is stored under these `_id`s; one that is missing is not there.

        Of what a write has just found, or of what may be appended once too often: a primary that has been followed may answer.
        """
        return await self._with_bodies([document async for document in self._with_ids(self._documents, ids)])

    @timed("find")
    @cancelled_once
    async def find_among_new(self, ids: Sequence[str]) -> dict[str, Stored] | None:
        """Return what is stored under these `_id`s, of which hardly any is; None when so many are that it takes too long.

        One query, which costs the embedded store less than many while it stores something; behind None, `find` them.
        """
        try:
            documents = await self._documents.find({"_id": {"$in": list(ids)}}).max_time_ms(_NEW_MAX_MS).to_list()
        except ExecutionTimeout:
            return None
        return await self._with_bodies(documents)

    async def _with_bodies(self, documents: Sequence[Document]) -> dict[str, Stored]:
        bodies = await self._bodies.find([document["body"] for document in documents if "body" in document])
        return {document["_id"]: _stored(document, bodies.get(document.get("body", ""))) for document in documents}

    @timed("with_id")
    @cancelled_once
    async def with_id(self, message_id: str, most: int) -> list[Kept]:
        """Return what is stored of the message of this id: one a target, by target, so many at most."""
        fields = {"_id": 0, "frame": 0, "id": 0, "prev": 0}
        found = confirmed(self._documents).find({"id": message_id}, fields).sort("target", ASCENDING).limit(most)
        return [
            Kept(
                target=document["target"],
                seq=int(document["seq"]),
                stored_at=document["stored_at"],
                expires_at=document["expires_at"],
                carried=document.get("carried", {}),
                trace=document.get("trace", False),
                exclude=document.get("exclude", ""),
            )
            async for document in found
        ]

    async def recent(self, shard: int, since: datetime, most: int, most_bytes: int) -> AsyncGenerator[list[Recent]]:
        """Yield what a shard has stored since then and whose time is not over, a part at a time, in the order of storing.

        Args:
            shard: its number.
            since: a time with a time zone.
            most: most messages in a part.
            most_bytes: most bytes of frames and bodies in a part, passed by one of them.
        """
        wanted = {"shard": shard, "stored_at": {"$gte": since}}
        fields = {"_id": 0, "target": 1, "seq": 1, "frame": 1, "body": 1, "expires_at": 1, "trace": 1, "exclude": 1}
        found = confirmed(self._documents).find(wanted, fields).sort([("stored_at", ASCENDING), ("seq", ASCENDING)])
        now, documents = datetime.now(UTC), WithBodies(found, self._bodies)
        try:
            while part := await _read_part(documents, now, most, most_bytes):
                yield part
        finally:
            await cancelled_once(found.close)()

    @timed("newest")
    @cancelled_once
    async def newest(self, targets: Sequence[str]) -> dict[str, int]:
        """Return the highest seq stored of each target; a target without any is not there.

        A document that somebody has spoilt is passed over: to MongoDB a text is higher than any number.
        """
        newest: dict[str, Any] = {}
        for first in range(0, len(targets), _TARGETS_A_QUERY):
            some = list(targets[first : first + _TARGETS_A_QUERY])
            cursor = await confirmed(self._documents).aggregate(
                [
                    {"$match": {"target": {"$in": some}}},
                    # In this order MongoDB reads one index entry a target (DISTINCT_SCAN).
                    {"$sort": {"target": DESCENDING, "seq": DESCENDING}},
                    {"$group": {"_id": "$target", "seq": {"$first": "$seq"}}},
                ]
            )
            newest.update({group["_id"]: group["seq"] async for group in cursor})
        for target in [target for target, seq in newest.items() if not isinstance(seq, int | float)]:
            found = await self._documents.find_one({"target": target, "seq": {"$gte": 0}}, sort=[("seq", DESCENDING)])
            newest[target] = found["seq"] if found else 0
        return {target: int(seq) for target, seq in newest.items()}

    @timed("newest")
    @cancelled_once
    async def newest_above(self, target: str, above: int) -> int:
        """Return the highest seq stored of a target, or `above` where none is higher."""
        now_us, documents = time.time_ns() // 1_000, confirmed(self._documents)
        # Where others are asked as well, one look at the end of the index is cheaper than several.
        spans_us = _NEWEST_SPANS_US if documents is self._documents else _NEWEST_SPANS_US[-1:]
        for span_us in spans_us:
            lowest = max(above, now_us - span_us)
            wanted = {"target": target, "seq": {"$gt": lowest}}
            document = await documents.find_one(wanted, {"_id": 0, "seq": 1}, sort=[("seq", DESCENDING)])
            if document:
                return int(document["seq"])
            if lowest == above:
                break
        return above

    @timed("newest")
    @cancelled_once
    async def newest_of_few(self, targets: Sequence[str]) -> dict[str, int] | None:
        """Return the highest seq stored of each target that has any; None when they have so much that each is to be asked for.

        One query for targets that mostly have nothing, as those without a counter in Redis do.
        """
        wanted, fields = {"target": {"$in": list(targets)}}, {"_id": 0, "target": 1, "seq": 1}
        # All in the first answer, which would else hold 101 of them.
        documents = confirmed(self._documents)
        found = documents.find(wanted, fields).limit(_FEW).batch_size(_FEW + 1).max_time_ms(_few_max_ms(documents))
        try:
            few = await found.to_list()
        except ExecutionTimeout:
            return None
        return None if len(few) == _FEW else _newest_of_each(few)

    @timed("page")
    @cancelled_once
    async def page(
        self,
        target: str,
        after: int,
        until: int,
        most: int,
        most_bytes: int,
        *,
        head: int | None = None,
        ahead: Ahead | None = None,
    ) -> Page:
        """Return the first messages of a target with `after` < seq <= `until` whose time is not over.

        Args:
            target: whose.
            after: the seq to begin behind.
            until: the last seq of interest.
            most: most messages.
            most_bytes: most bytes of frames, passed by one frame.
            head: the highest seq that will be read; what has a newer one of its key up to there is left out. None leaves out
                nothing.
            ahead: what the pages of one replay know of what lies ahead of them; grows.
        """
        page = await self._page(target, after, until, most, most_bytes)
        if head is None or not page.collapse:
            return page
        ahead = ahead or Ahead()
        keys = latest_ends(page.collapse.values())
        await self._look_ahead(ahead, target, keys, page.reached, head)
        ends = {key: ahead.ends_behind(page.reached, key) for key in keys}
        return collapsed(page, {key: end for key, end in ends.items() if end is not None})

    async def _look_ahead(self, ahead: Ahead, target: str, keys: Mapping[str, datetime], after: int, head: int) -> None:
        """Get to know what a target has with `after` < seq <= `head`, down to where each of these keys is outlived.

        The newest first: what is worth a key comes again and again. A filter by key would have the embedded store read all
        that anybody has.
        """
        if ahead.head == 0:
            ahead.begin(head)
        elif head > ahead.head:
            ahead.note_above(head, [one async for one in self._keyed(target, ahead.head, head)])
        left = ahead.not_outlived(after, keys)
        if not left or ahead.is_full():
            return
        for bottom in (max(after, ahead.head - span_us) for span_us in _NEWER_SPANS_US):
            if bottom >= ahead.bottom:
                continue
            async with aclosing(self._keyed(target, bottom, ahead.bottom)) as found:
                async for seq, one in found:
                    if ahead.is_full() or not left:
                        return
                    ahead.note(seq, one)
                    ahead.bottom = seq - 1
                    if one.key in left and one.ends >= left[one.key]:
                        del left[one.key]
            ahead.bottom = bottom

    async def _keyed(self, target: str, above: int, until: int) -> AsyncGenerator[tuple[int, Keyed]]:
        """Yield a target's messages with `above` < seq <= `until`, the newest first; those without a key have ""."""
        fields = {"_id": 0, "seq": 1, "collapse": 1, "expires_at": 1}
        wanted = {"target": target, "seq": {"$gt": above, "$lte": until}}
        async with self._documents.find(wanted, fields).sort("seq", DESCENDING) as found:
            async for document in found:
                yield int(document["seq"]), Keyed(document.get("collapse", ""), document["expires_at"])

    async def _page(self, target: str, after: int, until: int, most: int, most_bytes: int) -> Page:
        messages: list[tuple[int, bytes]] = []
        size = count = 0
        reached = after
        now = datetime.now(UTC)
        traced: list[Traced] = []
        excluded: dict[int, str] = {}
        collapse: dict[int, Keyed] = {}
        ends: dict[int, datetime] = {}
        fields = {"_id": 0, "seq": 1, "frame": 1, "body": 1, "expires_at": 1, "trace": 1, "exclude": 1, "collapse": 1}
        wanted = {"target": target, "seq": {"$gt": after, "$lte": until}}
        # What is not found is passed over: an old answer would lose it.
        async with confirmed(self._documents).find(wanted, fields).sort("seq", ASCENDING).limit(most) as found:
            async for document, body in WithBodies(found, self._bodies):
                count += 1
                reached = int(document["seq"])
                frame = _frame_of(document, body, target)
                if frame is None:
                    continue
                # Here and not in the query: the index has no expiry, and few messages end before their retention.
                alive = document["expires_at"] > now
                if alive:
                    messages.append((reached, frame))
                    ends[reached] = document["expires_at"]
                    size += len(frame)
                if document.get("trace"):
                    traced.append(Traced(reached, frame, alive))
                if whom := document.get("exclude"):
                    excluded[reached] = whom
                if alive and (key := document.get("collapse")):
                    collapse[reached] = Keyed(key, document["expires_at"])
                if size >= most_bytes:
                    break
        whole = count < most and size < most_bytes
        return Page(messages, reached, whole=whole, traced=traced, excluded=excluded, collapse=collapse, ends=ends)

    @timed("forget")
    @cancelled_once
    async def forget(self, target: str) -> int:
        """Remove up to `_FORGET_MAX` messages of a target, durably, and return how many those were; 0 when none is left.

        Raises:
            PyMongoError: when it is unknown which are gone; forget again.
        """
        found = self._documents.find({"target": target}, {"_id": 0, "seq": 1}).sort("seq", ASCENDING).limit(_FORGET_MAX)
        seqs = [seq async for document in found if isinstance(seq := document.get("seq"), int | float)]
        parts = [seqs[first : first + _FORGET_PART] for first in range(0, len(seqs), _FORGET_PART)]
        wanted = [{"target": target, "seq": {"$gte": part[0], "$lte": part[-1]}} for part in parts]
        # Without a number among them, what is left, if anything is, has been spoilt.
        return sum([(await self._documents.delete_many(one)).deleted_count for one in wanted or [{"target": target}]])

    @cancelled_once
    async def check(self) -> None:
        """Refuse a database without the indexes that order and idempotency rest on.

        Raises:
            SetupError: with what to do about it.
            PyMongoError: when MongoDB cannot be asked.
        """
        present = await self._documents.index_information()
        missing = {ORDER_INDEX, TTL_INDEX, RECENT_INDEX, ID_INDEX} - present.keys()
        if missing:
            raise SetupError(f"MongoDB's inbox lacks the index {', '.join(sorted(missing))}: run `pushway migrate` first.")
        if TTL_INDEX not in await self._bodies.documents.index_information():
            raise SetupError(f"MongoDB's bodies lacks the index {TTL_INDEX}: run `pushway migrate` first.")

    @cancelled_once
    async def make_indexes(self, idempotency_s: float) -> None:
        """Make the indexes; those that stand already are left as they are.

        Raises:
            SetupError: when one of that name has other options.
            PyMongoError: when MongoDB cannot be asked.
        """
        try:
            await self._documents.create_index([("target", ASCENDING), ("seq", ASCENDING)], name=ORDER_INDEX, unique=True)
            await self._documents.create_index("expires_at", name=TTL_INDEX, expireAfterSeconds=int(idempotency_s))
            recent = [("shard", ASCENDING), ("stored_at", ASCENDING), ("seq", ASCENDING)]
            await self._documents.create_index(recent, name=RECENT_INDEX)
            await self._documents.create_index("id", name=ID_INDEX)
            await self._bodies.documents.create_index("expires_at", name=TTL_INDEX, expireAfterSeconds=int(idempotency_s))
        except OperationFailure as exc:
            if exc.code not in _INDEX_CONFLICTS:
                raise
            raise SetupError(f"an index of inbox or bodies stands there with other options; drop it first: {exc}") from exc


def _stored(document: Document, body: Body | None) -> Stored:
    return Stored(
        seq=int(document["seq"]),
        prev=int(document["prev"]),
        frame="" if "body" in document else document["frame"],
        expires_ms=int(document["expires_at"].timestamp() * 1000),
        trace=document.get("trace", False),
        exclude=document.get("exclude", ""),
        body=body,
    )


def _frame_of(document: Document, body: Body | None, target: str) -> bytes | None:
    """Return a document's frame, in UTF-8; None where its body is gone."""
    if "body" not in document:
        frame: bytes = document["frame"].encode()
        return frame
    return None if body is None else body.frame(target, int(document["seq"])).encode()


def _few_max_ms(documents: AsyncCollection[Document]) -> int:
    return _FEW_MAX_MS + (_CONFIRM_MS if documents.read_concern == CONFIRMED else 0)


def _newest_of_each(documents: Sequence[Document]) -> dict[str, int]:
    newest: dict[str, int] = {}
    for document in documents:
        target, seq = document["target"], document["seq"]
        if isinstance(seq, int | float):  # else somebody has spoilt it
            newest[target] = max(int(seq), newest.get(target, 0))
    return newest


@cancelled_once
async def _read_part(found: WithBodies, now: datetime, most: int, most_bytes: int) -> list[Recent]:
    """Return the next of them whose time is not over; none at the end."""
    part: list[Recent] = []
    size = 0
    counted: Body | None = None
    async for document, body in found:
        if document["expires_at"] <= now or ("body" in document and body is None):
            continue
        frame = document["frame"] if body is None else ""
        expires_ms = int(document["expires_at"].timestamp() * 1000)
        trace, exclude = document.get("trace", False), document.get("exclude", "")
        part.append(Recent(document["target"], int(document["seq"]), frame, expires_ms, trace, exclude, body))
        # Those of one message mostly follow each other, and then its body goes out once.
        if body is None or body is not counted:
            size += len(frame) if body is None else len(body.content)
        counted = body
        if len(part) == most or size >= most_bytes:
            break
    return part


def _note_error(errors: Sequence[Document], indexes: Sequence[int], outcome: Insertion) -> int:
    """Note the document that ended an ordered insert of those at `indexes`; return its place among them.

    Raises:
        BulkWriteError: when that is no fault of the document.
    """
    (found,) = errors
    at: int = found["index"]
    if found["code"] == _DUPLICATE_KEY:
        outcome.taken.add(indexes[at])
    elif found["code"] in _PERMANENT:
        outcome.refused[indexes[at]] = found["errmsg"]
    else:
        raise BulkWriteError({"writeErrors": errors})
    return at
