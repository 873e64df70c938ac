"""router.bodies: what many targets share of a message, and the inbox that refers to it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from router import bodies as module
from router.bodies import Bodies
from router.errors import SetupError
from router.inbox import Inbox
from router.stored import Body, Document, Stored, make_body, make_body_document, make_document
from tests.integration.site import Site

pytestmark = pytest.mark.anyio

NOW_MS = int(time.time() * 1000) // 1_000 * 1_000
EXPIRES_MS = NOW_MS + 86_400_000
"""Far behind the end of a run of all tests, which begins when this is read."""


def _body(number: int = 0, content: str = '"text":"hi"') -> Body:
    return make_body(f"m{number}", 1_000 + number, content)


def _document(body: Body, seq: int, target: str = "user:a", *, expires_ms: int = EXPIRES_MS) -> Document:
    return make_document(
        target=target,
        message_id=body.message_id,
        place=(seq - 1, seq),
        body=body.id,
        carried=(),
        now_ms=NOW_MS,
        shard=0,
        expires_ms=expires_ms,
    )


async def _insert(inbox: Inbox, some: Sequence[Body], target: str = "user:a") -> None:
    """Store a message of each body, from seq 1 on."""
    documents = [_document(body, seq, target) for seq, body in enumerate(some, start=1)]
    await inbox.insert(documents, [make_body_document(body, EXPIRES_MS) for body in some])


async def _stored(site: Site) -> list[Document]:
    return [document async for document in site.mongo[site.settings.mongo_database].bodies.find()]


def _frame(body: Body, seq: int, target: str = "user:a") -> bytes:
    return body.frame(target, seq).encode()


async def test_body_stands_once_for_all_who_refer_to_it(site: Site) -> None:
    """Stored again it stays one, and lives as long as the last of them."""
    body = _body()
    for later_ms in (0, 5_000, -5_000):
        await site.inbox.insert([_document(body, 1)], [make_body_document(body, EXPIRES_MS + later_ms)])
    (stored,) = await _stored(site)
    assert stored == {
        "_id": body.id,
        "id": "m0",
        "ts": 1_000,
        "content": '"text":"hi"',
        "expires_at": datetime.fromtimestamp((EXPIRES_MS + 5_000) / 1000, UTC),
    }


async def test_new_bodies_are_stored_beside_those_that_stand(site: Site) -> None:
    """One that was there does not keep the others out."""
    bodies = Bodies(site.mongo, site.settings)
    await bodies.store([make_body_document(_body(1), EXPIRES_MS)])
    await bodies.store([make_body_document(_body(number), EXPIRES_MS) for number in range(3)])
    await bodies.store([])
    assert sorted(document["id"] for document in await _stored(site)) == ["m0", "m1", "m2"]


async def test_page_gives_the_frames(site: Site) -> None:
    """Among those that stand whole, and in the order of seqs, however many bodies there are."""
    some = [_body(number) for number in range(60)]
    await _insert(site.inbox, some)
    whole = make_document(
        target="user:a", message_id="w", place=(60, 61), frame="{}", carried=(), now_ms=NOW_MS, shard=0, expires_ms=EXPIRES_MS
    )
    await site.inbox.insert([whole, _document(_body(), 62) | {"_id": "user:a again"}])
    page = await site.inbox.page("user:a", 0, 100, 100, 1_000_000)
    expected = [(seq, _frame(body, seq)) for seq, body in enumerate(some, start=1)]
    assert page.messages == [*expected, (61, b"{}"), (62, _frame(_body(), 62))]
    assert page.whole


async def test_page_counts_the_bytes_of_frames(site: Site) -> None:
    """It ends where they reach the most, as a page of whole frames does."""
    some = [_body(number, f'"text":"{"x" * 400}"') for number in range(30)]
    await _insert(site.inbox, some)
    page = await site.inbox.page("user:a", 0, 100, 100, 1_000)
    assert (len(page.messages), page.reached, page.whole) == (3, 3, False)


async def test_message_whose_body_is_gone_is_gone(site: Site) -> None:
    """A page passes over it, and of what was stored under its id there is the place alone."""
    some = [_body(number) for number in range(3)]
    await _insert(site.inbox, some)
    await site.mongo[site.settings.mongo_database].bodies.delete_one({"_id": some[1].id})
    page = await site.inbox.page("user:a", 0, 100, 100, 1_000_000)
    assert ([seq for seq, _ in page.messages], page.reached, page.whole) == ([1, 3], 3, True)
    found = (await Inbox(site.mongo, site.settings).find(["user:a m1"]))["user:a m1"]
    assert (found.gone, found.seq, found.content) == (True, 2, "")


async def test_find_gives_the_body(site: Site) -> None:
    """Once for all, beside the place of each."""
    await site.inbox.insert(
        [_document(_body(), 1, "user:a"), _document(_body(), 2, "user:b")], [make_body_document(_body(), EXPIRES_MS)]
    )
    found = await site.inbox.find(["user:a m0", "user:b m0"])
    assert found == {
        "user:a m0": Stored(1, 0, "", EXPIRES_MS, body=_body()),
        "user:b m0": Stored(2, 1, "", EXPIRES_MS, body=_body()),
    }
    assert found["user:a m0"].content == '"text":"hi"'


async def test_recent_counts_a_body_once(site: Site) -> None:
    """Those of one message come in one part, although their frames together are longer."""
    body = _body(0, f'"text":"{"x" * 800}"')
    documents = [_document(body, seq, f"user:{seq}") for seq in range(1, 21)]
    await site.inbox.insert(documents, [make_body_document(body, EXPIRES_MS)])
    since = datetime.fromtimestamp(NOW_MS / 1000 - 5, UTC)
    parts = [part async for part in site.inbox.recent(0, since, 100, 1_000)]
    assert [[one.target for one in part] for part in parts] == [[f"user:{seq}" for seq in range(1, 21)]]
    assert {one.body for part in parts for one in part} == {body}


async def test_body_is_read_once_for_many_pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes back after an outage has mostly missed the same; and what is kept of it is bounded."""
    await _insert(site.inbox, [_body()])
    bodies = Bodies(site.mongo, site.settings)
    assert await bodies.find([_body().id]) == {_body().id: _body()}
    await site.mongo[site.settings.mongo_database].bodies.delete_many({})
    assert await bodies.find([_body().id]) == {_body().id: _body()}
    monkeypatch.setattr(module, "KEPT_MAX_BYTES", 20)
    await _insert(site.inbox, [_body(1)], "user:b")
    assert list(await bodies.find([_body(1).id])) == [_body(1).id]
    assert await bodies.find([_body().id]) == {}


async def test_check_names_the_missing_index_of_bodies(site: Site) -> None:
    """Without it they would never go; nothing starts, and the error says what to run."""
    await site.mongo[site.settings.mongo_database].bodies.drop_index("expires_at")
    with pytest.raises(SetupError, match=r"bodies lacks the index expires_at: run `pushway migrate`"):
        await site.inbox.check()
