"""How long a message is kept: what is over is neither delivered nor replayed, and its id goes on refusing a second one."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from router.mongo_client import open_mongo
from router.stored import make_document
from tests.integration.edges import Edge, message, running_edge
from tests.integration.site import Site
from tests.servers import EmbeddedValkey

pytestmark = pytest.mark.anyio

LONG_AGO = datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture
async def edge(valkey_server: EmbeddedValkey, tmp_path: Path) -> AsyncIterator[Edge]:
    """Yield a ready edge."""
    async with running_edge(valkey_server.url, tmp_path) as edge:
        yield edge


def _documents(user: str, seqs: dict[int, bool]) -> list[dict[str, Any]]:
    """Return what the inbox holds of messages by seq, alive or over."""
    now_ms = time.time_ns() // 1_000_000
    return [
        make_document(
            target=f"user:{user}",
            message_id=f"m{seq}",
            place=(seq - 1, seq),
            frame=json.dumps({"type": "message", "to": f"user:{user}", "seq": seq, "id": f"m{seq}"}),
            carried=(),
            now_ms=now_ms,
            shard=0,
            expires_ms=now_ms + (60_000 if alive else -1),
        )
        for seq, alive in seqs.items()
    ]


async def test_what_is_over_is_not_replayed(edge: Edge) -> None:
    """Wherever it lies among the others; the client is caught up all the same, to the last of them."""
    seqs = {1: False, 2: True, 3: False, 4: True, 5: False}
    await edge.inbox.insert(_documents("alice", seqs))
    async with edge.open(edge.token("alice"), since="0") as client:
        await client.welcome()
        assert await client.seqs(2) == [2, 4]
        assert await client.next() == {"type": "caught_up", "to": "user:alice", "seq": 5}


async def test_what_is_over_is_not_delivered(edge: Edge) -> None:
    """It was published too late; what follows it comes without a gap."""
    async with edge.session("alice") as (client, node):
        lines = [message("alice", 1, 0), message("alice", 2, 1, expires_ms=1), message("alice", 3, 2)]
        await edge.redis.spublish(edge.keys.node_channel(node), "\n".join(lines))
        assert await client.seqs(2) == [1, 3]


async def _line(site: Site, number: int) -> list[str]:
    return (await site.lines())[number].split(" ", 4)


async def test_id_of_an_expired_message_refuses_a_second_one(site: Site) -> None:
    """As long as the document stands, nothing new is stored; the old one goes out with its end, so that nobody gets it."""
    await site.append(to="user:a", text="first", id="m", ttl="60")
    await site.settle()
    await site.documents.update_one({"id": "m"}, {"$set": {"expires_at": LONG_AGO}})
    await site.append(to="user:a", text="second", id="m", ttl="60")
    await site.settle()
    await site.append(to="user:a", text="third", id="m")
    await site.settle()
    (document,) = await site.stored()
    assert '"text":"first"' in document["frame"]
    for number in (1, 2):
        _, _, seq, opts, frame = await _line(site, number)
        assert (int(seq), frame) == (document["seq"], document["frame"])
        assert opts == f"exp={int(LONG_AGO.timestamp() * 1000)}"


async def test_id_is_free_again_when_the_document_is_removed(site: Site) -> None:
    """It is a new message then, above the old one's seq."""
    await site.append(to="user:a", text="first", id="m", ttl="60")
    await site.settle()
    (first,) = await site.stored()
    await site.documents.delete_one({"id": "m"})
    await site.append(to="user:a", text="second", id="m", ttl="60")
    await site.settle()
    (second,) = await site.stored()
    assert '"text":"second"' in second["frame"]
    assert second["seq"] > first["seq"]


async def test_document_is_removed_idempotency_s_after_its_end(site: Site) -> None:
    """Not at its end, and not later than the store next looks."""
    ends = {"alive": 60, "over": -site.settings.idempotency_s + 600, "long over": -site.settings.idempotency_s - 60}
    now = datetime.now(UTC)
    documents = _documents("a", dict.fromkeys(range(1, 4), True))
    for document, (name, end_s) in zip(documents, ends.items(), strict=True):
        await site.documents.insert_one(document | {"_id": name, "expires_at": now + timedelta(seconds=end_s)})
    async with open_mongo(site.settings) as mongo:
        # What MongoDB does each minute by itself; the embedded store can be asked to do it now.
        await mongo.admin.command("secantusAdmin.pruneTtl")
    assert {document["_id"] for document in await site.stored()} == {"alive", "over"}


@pytest.mark.parametrize(("ttl", "kept_s"), [(None, 2_592_000.0), ("60", 60.0)])
async def test_end_is_that_of_the_ttl_or_of_retention(site: Site, ttl: str | None, kept_s: float) -> None:
    """A ttl counts from the append, retention from the storing; only a ttl goes along with the line."""
    fields = {} if ttl is None else {"ttl": ttl}
    before = datetime.now(UTC)
    await site.append(to="user:a", text="hi", **fields)
    await site.settle()
    (document,) = await site.stored()
    kept = document["expires_at"] - before
    assert timedelta(seconds=kept_s - 1) < kept < timedelta(seconds=kept_s + 20)
    _, _, _, opts, _ = await _line(site, 0)
    assert opts.startswith("exp=") is (ttl is not None)
