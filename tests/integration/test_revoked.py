"""router.revoked on a real store: documents that somebody else has written, too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from bson.datetime_ms import DatetimeMS
from pymongo.asynchronous.collection import AsyncCollection

from router.mongo_client import open_mongo
from router.revocation import Revocation
from router.revoked import Revoked
from router.settings import Settings
from router.stored import Document
from tests.integration.edges import mongo_urls
from tests.servers import free_ports

pytestmark = pytest.mark.anyio

UNTIL = datetime(2200, 1, 1, tzinfo=UTC)
GOOD = Revocation("user:a", 100, int(UNTIL.timestamp()))


@asynccontextmanager
async def _list() -> AsyncIterator[tuple[Revoked, AsyncCollection[Document]]]:
    """Yield a list with one good revocation, and its collection."""
    settings = Settings(mongo_url=mongo_urls[-1], mongo_database=f"revoked_{free_ports()}")
    async with open_mongo(settings) as mongo:
        revoked = Revoked(mongo, settings)
        await revoked.add(GOOD)
        yield revoked, mongo[settings.mongo_database]["revoked"]


@pytest.mark.parametrize(
    "spoilt",
    [{"before": float("nan")}, {"before": float("inf")}, {"before": "100"}, {"expires_at": 4_000_000_000}],
)
async def test_a_spoilt_document_revokes_nothing(spoilt: dict[str, Any]) -> None:
    """Whoever wrote it by hand; the others hold, for edges that could not read the list would let nobody in."""
    async with _list() as (revoked, documents):
        await documents.insert_one({"_id": "user:b", "before": 100, "expires_at": UNTIL} | spoilt)
        assert (await revoked.read()).revocations == [GOOD]
        assert await revoked.find(["user:a", "user:b"]) == [GOOD]


async def test_an_end_behind_all_dates_is_the_last_one() -> None:
    """BSON knows later years than Python, and a driver that could not read one document would return none."""
    async with _list() as (revoked, _):
        # The store of the tests takes none such.
        written = bson.encode({"_id": "user:b", "before": 100, "expires_at": DatetimeMS(2**62)})
        read = bson.decode(written, revoked._documents.codec_options)
        assert read["expires_at"] == datetime.max.replace(microsecond=999_000, tzinfo=UTC)


async def test_a_change_in_the_future_hides_none_of_the_present() -> None:
    """A database whose clock was ahead for a while, or somebody by hand."""
    async with _list() as (revoked, documents):
        ahead = datetime.now(UTC) + timedelta(days=1)
        await documents.insert_one({"_id": "user:b", "before": 1, "expires_at": UNTIL, "changed_at": ahead})
        newest = (await revoked.read()).newest
        await revoked.add(Revocation("user:c", 100, GOOD.expires_at))
        assert "user:c" in {one.id for one in (await revoked.read(newest)).revocations}
