"""MongoDB's `bodies`: what many targets share of a message, stored once; their documents in the inbox refer to it.

_id         "<message id> <digest of ts and content>": the same always says the same
id          the message's id
ts          when it was appended, Unix ms
content     as it stands in the frame
expires_at  when the last document that refers to it expires; a TTL index removes it `idempotency_s` later

A body is stored before whatever refers to it. Nobody removes one by hand: whom it is for is not told here. What is said never
changes, so a few are kept in memory: those of a message to thousands, whom an outage may bring back all at once, are read once.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pymongo import AsyncMongoClient, UpdateOne
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.errors import BulkWriteError

from router.mongo_client import cancelled_once, confirmed, durable_collection
from router.settings import Settings
from router.stored import Body, Document

KEPT_MAX_BYTES: Final = 8_388_608
"""Most content kept in memory (8 MiB), which the last one read may pass."""

IDS_A_QUERY: Final = 128
"""As in the inbox: to the embedded store ids that are there cost the square of their number."""

_AHEAD_FIRST, _AHEAD_MOST, _AHEAD_GROWTH = 8, 512, 4
"""Documents read ahead for the sake of their bodies: how many at first, at most, and how many times as many each time. Nobody
knows how long a body is before it is read, and who wants so many bytes has ended before long ones have become many."""

_DUPLICATE_KEY: Final = 11000


class Bodies:
    """The bodies of one database."""

    def __init__(self, client: AsyncMongoClient[Document], settings: Settings) -> None:
        self.documents = durable_collection(client, settings, "bodies")
        self._kept: OrderedDict[str, Body] = OrderedDict()
        self._kept_bytes = 0

    @cancelled_once
    async def store(self, bodies: Sequence[Document]) -> None:
        """Store what is new, durably, and have what stands there already live as long; none costs nothing.

        Raises:
            PyMongoError: when it is unknown what has been stored; store the same again.
        """
        if not bodies:
            return
        try:
            await self.documents.insert_many(bodies, ordered=False)
        except BulkWriteError as exc:
            errors = exc.details["writeErrors"]
            if exc.details["writeConcernErrors"] or any(error["code"] != _DUPLICATE_KEY for error in errors):
                raise
            # It may end meanwhile, so it is stored where it is not found. An insert costs the embedded store a tenth of that.
            await self.documents.bulk_write([_prolong(bodies[error["index"]]) for error in errors], ordered=False)

    @cancelled_once
    async def find(self, ids: Iterable[str]) -> dict[str, Body]:
        """Return the bodies of these `_id`s; one that is gone is not there."""
        found, missing = {}, []
        for one in dict.fromkeys(ids):
            if body := self._kept.get(one):
                self._kept.move_to_end(one)
                found[one] = body
            else:
                missing.append(one)
        for first in range(0, len(missing), IDS_A_QUERY):
            wanted = {"_id": {"$in": missing[first : first + IDS_A_QUERY]}}
            async for document in confirmed(self.documents).find(wanted, {"expires_at": 0}):
                body = Body(document["_id"], document["id"], int(document["ts"]), document["content"])
                found[body.id] = body
                self._keep(body)
        return found

    def _keep(self, body: Body) -> None:
        if body.id in self._kept:
            return  # somebody else has read it meanwhile
        self._kept[body.id] = body
        self._kept_bytes += len(body.content)
        while self._kept_bytes > KEPT_MAX_BYTES and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= len(oldest.content)


def _prolong(body: Document) -> UpdateOne:
    said = {name: value for name, value in body.items() if name not in {"_id", "expires_at"}}
    end = {"expires_at": body["expires_at"]}
    return UpdateOne({"_id": body["_id"]}, {"$setOnInsert": said, "$max": end}, upsert=True)


class WithBodies:
    """The inbox documents that a cursor finds, in its order, each with the body it refers to; None where that is gone, or none.

    Args:
        found: finds them; `body` is among its fields.
        bodies: where those are read.
    """

    def __init__(self, found: AsyncCursor[Document], bodies: Bodies) -> None:
        self._found = found
        self._bodies = bodies
        self._most_ahead = _AHEAD_FIRST
        self._ahead: deque[tuple[Document, Body | None]] = deque()

    def __aiter__(self) -> WithBodies:
        """Go on where the last loop ended."""
        return self

    async def __anext__(self) -> tuple[Document, Body | None]:
        """Return the next one."""
        if self._ahead:
            return self._ahead.popleft()
        document = await anext(self._found)
        if "body" not in document:
            return document, None
        await self._read_ahead(document)
        return self._ahead.popleft()

    async def _read_ahead(self, document: Document) -> None:
        documents = [document]
        # One without a body ends it: its frame is long.
        while len(documents) < self._most_ahead and "body" in documents[-1]:
            following: Any = await anext(self._found, None)
            if following is None:
                break
            documents.append(following)
        bodies = await self._bodies.find([one["body"] for one in documents if "body" in one])
        self._most_ahead = min(self._most_ahead * _AHEAD_GROWTH, _AHEAD_MOST)
        self._ahead.extend((one, bodies.get(one.get("body", ""))) for one in documents)
