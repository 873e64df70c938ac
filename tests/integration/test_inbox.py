"""router.inbox on a real store: what stands in it, and what it refuses."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

import router.inbox as inbox_module
from router import collapse
from router.errors import SetupError
from router.inbox import Inbox
from router.migrate import migrate
from router.mongo_client import open_mongo
from router.stored import Document, Insertion, Stored, make_document
from tests.integration.site import Site

pytestmark = pytest.mark.anyio

NOW_MS = 1_732_262_400_999


def _document(target: str, message_id: str, seq: int, prev: int = 0) -> Document:
    return make_document(
        target=target,
        message_id=message_id,
        place=(prev, seq),
        frame=f'{{"seq":{seq}}}',
        carried=(),
        now_ms=NOW_MS,
        shard=0,
        expires_ms=NOW_MS + 60_000,
    )


async def test_insert_stores_what_is_new(site: Site) -> None:
    """Nothing stands in the way: all of it is stored; nothing at all is no error."""
    documents = [_document("user:a", f"m{n}", n) for n in range(500)]
    assert await site.inbox.insert(documents) == Insertion()
    assert await site.inbox.insert([]) == Insertion()
    assert await site.documents.count_documents({}) == 500


async def test_insert_tells_what_is_taken(site: Site) -> None:
    """An `_id` or a (target, seq) that is there already is told apart from what was stored around it, by its index."""
    await site.inbox.insert([_document("user:a", "m1", 1), _document("user:a", "m2", 2)])
    outcome = await site.inbox.insert(
        [
            _document("user:a", "m0", 10),
            _document("user:a", "m1", 11),
            _document("user:a", "m3", 2),
            _document("user:a", "m2", 2),
            _document("user:b", "m1", 1),
        ]
    )
    assert outcome == Insertion(taken={1, 2, 3})
    assert {document["_id"] for document in await site.stored()} == {"user:a m0", "user:a m1", "user:a m2", "user:b m1"}


async def test_nothing_is_stored_behind_what_fails(site: Site) -> None:
    """A document that MongoDB cannot store just now ends the insert: a reader never sees a seq whose predecessor is to come."""
    await site.documents.database.command({"collMod": "inbox", "validator": {"seq": {"$ne": 2}}})
    outcome = await site.inbox.insert([_document("user:a", f"m{seq}", seq) for seq in (1, 2, 3)])
    assert list(outcome.refused) == [1]


async def test_insert_again_is_all_taken(site: Site) -> None:
    """After an outage the same documents are inserted again: nothing is stored twice."""
    documents = [_document("user:a", f"m{n}", n) for n in range(100)]
    await site.inbox.insert(documents[:60])
    assert await site.inbox.insert(documents) == Insertion(taken=set(range(60)))
    assert await site.inbox.insert(documents) == Insertion(taken=set(range(100)))
    assert await site.documents.count_documents({}) == 100


async def test_find_returns_what_is_stored(site: Site) -> None:
    """Seq, prev, frame and expiry come back exactly; an id that is not there is left out."""
    seq = 9_007_199_254_000_001
    await site.inbox.insert([_document("user:a", "m1", seq, seq - 1), _document("user:a", "m2", 2)])
    found = await site.inbox.find(["user:a m1", "user:a nothing", "user:b m2"])
    assert found == {"user:a m1": Stored(seq, seq - 1, f'{{"seq":{seq}}}', NOW_MS + 60_000)}
    assert await site.inbox.find([]) == {}


async def test_find_among_new_answers_in_one_query(site: Site) -> None:
    """What is stored, where it is little."""
    await site.inbox.insert([_document("user:a", "m1", 1)])
    found = await site.inbox.find_among_new(["user:a m1", *(f"user:a n{number}" for number in range(1_000))])
    assert found is not None
    assert found.keys() == {"user:a m1"}


async def test_find_among_new_ends_where_much_is_stored(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store cuts it off in time, and the same ids can be asked for otherwise."""
    monkeypatch.setattr(inbox_module, "_NEW_MAX_MS", 1)
    documents = [_document("user:a", f"m{number}", number) for number in range(500)]
    for first in range(0, len(documents), 100):
        await site.inbox.insert(documents[first : first + 100])
    ids = [document["_id"] for document in documents]
    assert await site.inbox.find_among_new(ids) is None
    assert len(await site.inbox.find(ids)) == len(ids)


async def test_newest_of_many_targets(site: Site) -> None:
    """The highest seq of each, in slices; a target without any is left out."""
    documents = [_document(f"user:{n}", f"m{m}", 1_000 * n + m) for n in range(300) for m in (2, 0, 1)]
    for first in range(0, len(documents), 100):  # no more than a busy machine stores within the site's short timeout
        await site.inbox.insert(documents[first : first + 100])
    newest = await site.inbox.newest([f"user:{n}" for n in range(310)])
    assert newest == {f"user:{n}": 1_000 * n + 2 for n in range(300)}
    assert await site.inbox.newest([]) == {}


@pytest.mark.parametrize("ago_s", [-5, 1, 3_600, 86_400, 10**8])
async def test_newest_above_a_seq(site: Site, ago_s: int) -> None:
    """The highest of one target, however long ago it was and though a clock be ahead; without a higher one the seq itself."""
    newest = time.time_ns() // 1_000 - ago_s * 1_000_000
    await site.inbox.insert([_document("user:a", f"m{n}", newest - n) for n in range(3)])
    await site.inbox.insert([_document("user:b", "m", newest + 1)])
    assert await site.inbox.newest_above("user:a", 0) == newest
    assert await site.inbox.newest_above("user:a", newest - 2) == newest
    assert await site.inbox.newest_above("user:a", newest) == newest
    assert await site.inbox.newest_above("user:nobody", 7) == 7


async def test_newest_of_targets_that_have_little(site: Site) -> None:
    """The highest seq of each; what is spoilt counts for nothing, and a target without any is left out."""
    await site.inbox.insert([_document(f"user:{n}", f"m{m}", 1_000 * n + m) for n in range(1, 4) for m in (2, 0, 1)])
    for target in ("user:1", "user:spoilt"):
        await site.documents.insert_one({"_id": f"{target} x", "target": target, "seq": "spoilt"})
    newest = await site.inbox.newest_of_few([*(f"user:{n}" for n in range(40)), "user:spoilt"])
    assert newest == {"user:1": 1_002, "user:2": 2_002, "user:3": 3_002}
    assert {type(seq) for seq in newest.values()} == {int}


async def test_newest_of_targets_one_of_which_has_much(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not told: as many as are read may not be all."""
    await site.inbox.insert([_document("user:a", f"m{n}", n) for n in range(4)])
    monkeypatch.setattr(inbox_module, "_FEW", 4)
    assert await site.inbox.newest_of_few(["user:a", "user:b"]) is None
    monkeypatch.setattr(inbox_module, "_FEW", 5)
    assert await site.inbox.newest_of_few(["user:a", "user:b"]) == {"user:a": 3}


async def test_seqs_come_back_as_plain_numbers(site: Site) -> None:
    """As large as they are in life, where the driver has an int of its own that encoders refuse."""
    seq = 1_732_262_400_123_456
    await site.inbox.insert([_document("user:a", "m", seq) | {"expires_at": datetime.now(UTC) + timedelta(hours=1)}])
    page = await site.inbox.page("user:a", 0, seq, 10, 1_000)
    stored = (await site.inbox.find(["user:a m"]))["user:a m"]
    seqs = [page.messages[0][0], (await site.inbox.newest(["user:a"]))["user:a"], stored.seq]
    assert seqs == [seq] * 3
    assert {type(number) for number in seqs} == {int}


async def test_page_of_what_has_expired(site: Site) -> None:
    """Nothing of it is given, but the page tells how far it looked: the next one begins behind it."""
    await site.inbox.insert([_document("user:a", f"m{seq}", seq) for seq in range(1, 8)])
    page = await site.inbox.page("user:a", 0, 7, 5, 1_000)
    assert (page.messages, page.reached, page.whole) == ([], 5, False)
    rest = await site.inbox.page("user:a", page.reached, 7, 5, 1_000)
    assert (rest.messages, rest.reached, rest.whole) == ([], 7, True)


async def test_page_tells_whom_messages_pass_by(site: Site) -> None:
    """By seq, and of those alone that pass somebody by."""
    alive = {"expires_at": datetime.now(UTC) + timedelta(hours=1)}
    documents = [_document("user:a", f"m{seq}", seq) | alive for seq in range(1, 4)]
    documents[1]["exclude"] = "device:a,phone"
    await site.inbox.insert(documents)
    page = await site.inbox.page("user:a", 0, 7, 5, 1_000)
    assert [seq for seq, _ in page.messages] == [1, 2, 3]
    assert page.excluded == {2: "device:a,phone"}
    assert (await site.inbox.page("user:a", 2, 7, 5, 1_000)).excluded == {}


async def test_page_leaves_out_what_has_a_newer_one_of_its_key(site: Site) -> None:
    """Within the page and up to the head, and no further; what ends earlier takes nobody's place; and it reaches as far."""
    alive = {"expires_at": datetime.now(UTC) + timedelta(hours=2)}
    keys = ["a", "", "b", "a", "c", "b", "", "d", "c", "d"]
    documents = [_document("user:a", f"m{n}", n) | alive | ({"collapse": key} if key else {}) for n, key in enumerate(keys, 1)]
    documents[8]["expires_at"] = datetime.now(UTC) - timedelta(hours=1)
    documents[3]["expires_at"] = datetime.now(UTC) + timedelta(hours=1)
    documents[5]["expires_at"] = datetime.now(UTC) + timedelta(hours=3)
    await site.inbox.insert(documents)
    for after, until, head in itertools.product(range(11), range(11), range(11)):
        if after <= until <= head and (after + until + head) % 3 == 0:
            page = await site.inbox.page("user:a", after, until, 20, 1_000_000, head=head)
            there = [one for one in documents if after < one["seq"] <= until]
            assert [seq for seq, _ in page.messages] == [one["seq"] for one in there if _is_newest(one, documents, head)]
            assert (page.reached, page.whole) == (max([after, *(one["seq"] for one in there)]), True)
    assert len((await site.inbox.page("user:a", 0, 10, 20, 1_000_000)).messages) == 9


@pytest.mark.parametrize("steps_max", [4_096, 5])
async def test_pages_of_a_replay_share_what_they_know(site: Site, monkeypatch: pytest.MonkeyPatch, steps_max: int) -> None:
    """Page by page, with a head that rises, it is what each alone would leave out; with too many keys, no more than that."""
    monkeypatch.setattr(collapse, "STEPS_MAX", steps_max)
    rng, now = Random(7), datetime.now(UTC)  # noqa: S311 - to be the same each time
    documents = [_document("user:a", f"m{n}", n) for n in range(1, 121)]
    for one in documents:
        one["expires_at"] = now + timedelta(hours=rng.randint(1, 3))
        if rng.random() < 0.8:
            one["collapse"] = f"k{rng.randrange(15)}"
    await site.inbox.insert(documents)
    ahead, at, head, sent = collapse.Ahead(), 0, 60, 0
    while at < head:
        page = await site.inbox.page("user:a", at, head, 7, 1_000_000, head=head, ahead=ahead)
        there = [one for one in documents if at < one["seq"] <= page.reached]
        exact = {one["seq"] for one in there if _is_newest(one, documents, head)}
        got = {seq for seq, _ in page.messages}
        assert exact == got if steps_max > len(documents) else exact <= got
        at, head, sent = page.reached, min(120, head + rng.randint(0, 9)), sent + len(got)
    assert sent < len(documents)


def _is_newest(one: dict[str, Any], documents: list[dict[str, Any]], head: int) -> bool:
    newer = [other for other in documents if one["seq"] < other["seq"] <= head and other.get("collapse") == one.get("collapse")]
    outlived = any(other["expires_at"] >= one["expires_at"] for other in newer)
    return one["expires_at"] > datetime.now(UTC) and not ("collapse" in one and outlived)


async def test_newest_of_a_target_that_somebody_has_spoilt(site: Site) -> None:
    """What has no number for a seq ends no service: it is passed over."""
    await site.store_another("user:a", 5)
    for target in ("user:a", "user:b"):
        await site.documents.insert_one({"_id": f"{target} x", "target": target, "seq": "spoilt"})
    assert await site.inbox.newest(["user:a", "user:b", "user:c"]) == {"user:a": 5, "user:b": 0}


async def test_newest_is_read_from_the_index(site: Site) -> None:
    """The query that a cold target costs is answered by the index of order, where the server tells."""
    await site.inbox.insert([_document("user:a", f"m{n}", n) for n in range(10)])
    information = await site.documents.index_information()
    assert information["target_seq"]["key"] == [("target", 1), ("seq", 1)]
    assert information["target_seq"]["unique"] is True
    assert information["expires_at"]["expireAfterSeconds"] == 86_400


async def test_indexes_are_made_once(site: Site) -> None:
    """Migrating again changes nothing, and the check passes."""
    await migrate(site.settings)
    await site.inbox.check()


async def test_check_names_the_missing_index(site: Site) -> None:
    """Without an index that order or idempotency rests on nothing starts, and the error says what to run."""
    await site.documents.drop_index("target_seq")
    with pytest.raises(SetupError, match=r"lacks the index target_seq: run `pushway migrate`"):
        await site.inbox.check()
    settings = site.settings.model_copy(update={"mongo_database": f"{site.settings.mongo_database}-empty"})
    async with open_mongo(settings) as mongo:
        with pytest.raises(SetupError, match="expires_at, id, shard_stored_at_seq, target_seq"):
            await Inbox(mongo, settings).check()


async def test_index_of_other_options_is_a_setup_error(site: Site) -> None:
    """An index of that name with another expiry is not replaced behind the operator's back."""
    with pytest.raises(SetupError, match="other options"):
        await site.inbox.make_indexes(5.0)
    information: Any = await site.documents.index_information()
    assert information["expires_at"]["expireAfterSeconds"] == 86_400


async def test_messages_of_a_target_are_forgotten(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some at a time, until nothing is left; spoilt ones too, and nobody else's."""
    monkeypatch.setattr(inbox_module, "_FORGET_MAX", 50)
    monkeypatch.setattr(inbox_module, "_FORGET_PART", 20)
    await site.inbox.insert([_document(target, f"m{n}", n) for n in range(120) for target in ("user:a", "user:ab")])
    spoilt = {"target": "user:a", "frame": None}
    await site.documents.insert_many([{**spoilt, "_id": "1", "seq": "7"}, {**spoilt, "_id": "2"}])
    removed = []
    while count := await site.inbox.forget("user:a"):
        removed.append(count)
    assert (sum(removed), max(removed) <= 50) == (122, True)
    assert {document["target"] for document in await site.stored()} == {"user:ab"}
    assert len(await site.stored()) == 120


async def test_carried_fields_are_kept(site: Site) -> None:
    """Names with dots and hyphens stand in a document of their own; without any there is none."""
    with_some = make_document(
        target="all",
        message_id="m",
        place=(0, 1),
        frame="{}",
        carried=(("x-a.b-c_d", "1"), ("traceparent", "00")),
        now_ms=NOW_MS,
        shard=0,
        expires_ms=NOW_MS,
    )
    await site.inbox.insert([with_some, _document("all", "n", 2)])
    stored = {document["id"]: document.get("carried") for document in await site.stored()}
    assert stored == {"m": {"x-a.b-c_d": "1", "traceparent": "00"}, "n": None}
