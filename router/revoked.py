"""MongoDB's `revoked`: what is revoked (`router.revocation`), one document each.

    _id         all, user:<id> or jti:<jti>
    before      Unix seconds: what was issued before it. It never goes back
    expires_at  when it concerns nothing any more; a TTL index removes it then
    changed_at  when it was last written, by the database's clock

A write is durable before anybody is told of it. Edges read all of it when they start and when they hear again, and every few
seconds what has changed since: that is, since a while before the newest that they have seen. A write that shows late, or on a
new primary whose clock is a little behind, is not passed over. Their own clock counts in one way only: what claims to be of the
future is taken for new again and again, and hides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import structlog
from bson.codec_options import DatetimeConversion
from pymongo import AsyncMongoClient
from pymongo.errors import DuplicateKeyError, OperationFailure

from router.errors import SetupError
from router.mongo_client import Document, cancelled_once, confirmed, durable_collection, timed
from router.revocation import Revocation
from router.settings import Settings

TTL_INDEX: Final = "expires_at"
CHANGED_INDEX: Final = "changed_at"
INDEXES: Final = frozenset({TTL_INDEX, CHANGED_INDEX})

_OVERLAP: Final = timedelta(seconds=60)
"""How long before the newest that was seen another may have been written, and show only now."""

_INDEX_CONFLICTS: Final = frozenset({85, 86})
"""IndexOptionsConflict and IndexKeySpecsConflict: an index of that name stands there with other options."""

_UPSERT_TRIES: Final = 3
"""Two upserts of one new `_id` may both try to insert; the loser finds the document when it tries again."""

log = structlog.get_logger(__name__)


class Read(NamedTuple):
    """What was read, and when the newest of it was written; None where there was nothing."""

    revocations: list[Revocation]
    newest: datetime | None


class Revoked:
    """The revocations of one database."""

    def __init__(self, client: AsyncMongoClient[Document], settings: Settings) -> None:
        documents = durable_collection(client, settings, "revoked")
        # A date that Python does not know would have the driver return none of them.
        options = documents.codec_options.with_options(datetime_conversion=DatetimeConversion.DATETIME_CLAMP)
        self._documents = documents.with_options(codec_options=options)

    @timed("revoked_add")
    @cancelled_once
    async def add(self, one: Revocation) -> None:
        """Write a revocation, durably. An earlier one of the same id loses nothing by it.

        Raises:
            PyMongoError: when it is unknown whether it stands; add it again.
        """
        times = {"before": one.before, "expires_at": datetime.fromtimestamp(one.expires_at, UTC)}
        change: dict[str, Any] = {"$max": times, "$currentDate": {"changed_at": True}}
        for tries_left in reversed(range(_UPSERT_TRIES)):
            try:
                await self._documents.update_one({"_id": one.id}, change, upsert=True)
            except DuplicateKeyError:
                if not tries_left:
                    raise
            else:
                return

    @timed("revoked_find")
    @cancelled_once
    async def find(self, ids: Collection[str]) -> list[Revocation]:
        """Return those that there are.

        Raises:
            PyMongoError: when MongoDB cannot be asked.
        """
        found = confirmed(self._documents).find({"_id": {"$in": list(ids)}})
        return [one async for document in found if (one := _read(document)) is not None]

    @timed("revoked_read")
    @cancelled_once
    async def read(self, newest: datetime | None = None) -> Read:
        """Return those written since a while before `newest`, all without it.

        Raises:
            PyMongoError: when MongoDB cannot be asked.
        """
        wanted = {} if newest is None else {"changed_at": {"$gt": newest - _OVERLAP}}
        revocations, written = [], []
        async for document in confirmed(self._documents).find(wanted):
            if (one := _read(document)) is not None:
                revocations.append(one)
                written.append(document.get("changed_at"))
        # What was written by a clock ahead of ours would hide what is written now.
        latest = datetime.now(UTC)
        times = [min(at, latest) for at in written if isinstance(at, datetime)]
        return Read(revocations, max(filter(None, (newest, *times)), default=None))

    @cancelled_once
    async def make_indexes(self) -> None:
        """Make the indexes; those that stand already are left as they are.

        Raises:
            SetupError: when one of that name has other options.
            PyMongoError: when MongoDB cannot be asked.
        """
        try:
            await self._documents.create_index("expires_at", name=TTL_INDEX, expireAfterSeconds=0)
            await self._documents.create_index("changed_at", name=CHANGED_INDEX)
        except OperationFailure as exc:
            if exc.code not in _INDEX_CONFLICTS:
                raise
            raise SetupError(f"an index of revoked stands there with other options; drop it first: {exc}") from exc


def _read(document: Document) -> Revocation | None:
    """Return the revocation in a document; None of one that somebody has spoilt, which then revokes nothing."""
    ident, before, expires_at = (document.get(name) for name in ("_id", "before", "expires_at"))
    if (
        isinstance(ident, str)
        and isinstance(before, int | float)
        and math.isfinite(before)
        and isinstance(expires_at, datetime)
    ):
        return Revocation(ident, int(before), int(expires_at.timestamp()))
    log.error("revocation_refused", id=str(ident)[:64])
    return None
