"""router.cursors on a real store: durable, and never back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from router.cursors import CursorKey, Cursors
from router.errors import SetupError
from router.migrate import migrate
from router.mongo_client import open_mongo
from tests.integration.site import Site

pytestmark = pytest.mark.anyio

SEQ = 1_732_262_400_123_456
PHONE = CursorKey("alice", "phone", "user:alice")
TABLET = CursorKey("alice", "tablet", "user:alice")


SPOILT = ["twelve", -1, float("inf"), float("nan"), None]


@pytest.fixture
async def cursors(site: Site) -> AsyncIterator[Cursors]:
    """Yield the adapter, on a database of the test's own."""
    async with open_mongo(site.settings) as mongo:
        yield Cursors(mongo, site.settings)


async def documents(site: Site) -> list[dict[str, Any]]:
    """Return what stands there."""
    async with open_mongo(site.settings) as mongo:
        return [document async for document in mongo[site.settings.mongo_database].cursors.find({})]


async def test_a_cursor_moves_forward_only(cursors: Cursors) -> None:
    """A lower seq changes nothing; what is not there is not found, and a seq comes back as a plain number."""
    for seq, stands in ((SEQ, SEQ), (SEQ + 7, SEQ + 7), (SEQ, SEQ + 7), (0, SEQ + 7)):
        await cursors.advance({PHONE: seq})
        found = await cursors.find([PHONE, TABLET])
        assert found == {PHONE: stands}
        assert type(found[PHONE]) is int


async def test_a_cursor_begins_once(cursors: Cursors) -> None:
    """Whoever comes second is told what stands, in one answer with those that are new."""
    assert await cursors.begin({PHONE: SEQ}) == {PHONE: SEQ}
    assert await cursors.begin({PHONE: SEQ + 5, TABLET: SEQ + 6}) == {PHONE: SEQ, TABLET: SEQ + 6}
    assert await cursors.find([PHONE, TABLET]) == {PHONE: SEQ, TABLET: SEQ + 6}


async def test_many_begin_one_cursor_at_once(cursors: Cursors) -> None:
    """All of them are told the same."""
    told = set()

    async def begin(seq: int) -> None:
        told.add((await cursors.begin({PHONE: seq}))[PHONE])

    async with anyio.create_task_group() as tasks:
        for n in range(8):
            tasks.start_soon(begin, SEQ + n)
    assert told == {(await cursors.find([PHONE]))[PHONE]}


async def test_what_stands_in_it(site: Site, cursors: Cursors) -> None:
    """Readable ids, the parts of them as fields, and when the device was seen last, begun or moved."""
    began = datetime.now(UTC)
    await cursors.begin({PHONE: SEQ})
    await cursors.advance({TABLET: SEQ})
    for document in await documents(site):
        seen_at = document.pop("seen_at")
        assert abs((seen_at - began).total_seconds()) < 10
        device = document["device"]
        assert document == {
            "_id": f"alice {device} user:alice",
            "user": "alice",
            "device": device,
            "target": "user:alice",
            "seq": SEQ,
        } | ({"began": SEQ} if device == PHONE.device else {})


@pytest.mark.parametrize("seq", SPOILT)
async def test_a_spoilt_document_is_one_devices_trouble(site: Site, cursors: Cursors, seq: object) -> None:
    """The others are found; that one neither is nor begins anew, which might lose what the device is owed."""
    async with open_mongo(site.settings) as mongo:
        await mongo[site.settings.mongo_database].cursors.insert_one({"_id": PHONE.id, "seq": seq})
    assert await cursors.begin({PHONE: SEQ, TABLET: SEQ}) == {TABLET: SEQ}
    assert await cursors.find([PHONE, TABLET]) == {TABLET: SEQ}


async def test_the_index_is_made_once(site: Site, cursors: Cursors) -> None:
    """By `pushway migrate`; another life of cursors is not put in its place behind the operator's back."""
    await migrate(site.settings)
    await migrate(site.settings)
    async with open_mongo(site.settings) as mongo:
        information = await mongo[site.settings.mongo_database].cursors.index_information()
    assert information["seen_at"]["expireAfterSeconds"] == 31_536_000
    with pytest.raises(SetupError, match="other options"):
        await cursors.make_indexes(5.0)
