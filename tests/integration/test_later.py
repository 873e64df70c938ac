"""router.later and collect over a real Redis and a real store: what waits is sent when it is due, and once."""

from __future__ import annotations

import time

import pytest

from router.errors import SetupError
from router.later import INDEXES, Cancelled, Later
from router.waiting import Waiting, waiting_key
from tests.integration.site import Site

pytestmark = pytest.mark.anyio

FAR_MS = 3_600_000


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _later(site: Site) -> Later:
    return Later(site.mongo, site.settings)


def _waiting(name: str, at_ms: int, *targets: str) -> Waiting:
    return Waiting(waiting_key(0, name, targets, '"text":"hi"'), 0, name, targets, '"text":"hi"', at_ms)


async def test_what_waits_comes_back_as_it_was(site: Site) -> None:
    """With all that it says; kept again it is there once."""
    one = Waiting("0 m x", 0, "m", ("user:a", "all"), '"body":1', _now_ms(), 9**13, True, (("x-a", "b"),), "session:1", "k")
    for _ in range(2):
        await _later(site).keep([one, _waiting("n", 5, "user:b")])
    assert await _later(site).waiting_with_id("m") == [one]


async def test_next_is_found_however_far_ahead(site: Site) -> None:
    """None at first; then the earliest, of that shard alone; and 0 as soon as one is in hand."""
    later, now_ms = _later(site), _now_ms()
    assert await later.next_due_ms(0, now_ms) is None
    for days in (400, 40, 1):
        at_ms = now_ms + days * 86_400_000
        await later.keep([_waiting(f"m{days}", at_ms, "user:a")])
        assert await later.next_due_ms(0, now_ms) == at_ms
    assert await later.next_due_ms(1, now_ms) is None
    await later.take_in_hand(0, [_waiting("m40", 0, "user:a").key])
    assert await later.next_due_ms(0, now_ms) == 0


async def test_due_by_time_and_what_is_in_hand_first(site: Site) -> None:
    """What is yet to come is not among them; in hand a message keeps its time."""
    later, now_ms = _later(site), _now_ms()
    await later.keep([_waiting(f"m{n}", now_ms - 10 + n, "user:a", "user:b") for n in (3, 1, 2, 11)])
    assert [one.key.split()[1] for one in await later.due(0, now_ms)] == ["m1", "m2", "m3"]
    (taken,) = await later.take_in_hand(0, [_waiting("m3", 0, "user:a", "user:b").key])
    assert (taken.id, taken.at_ms, taken.in_hand) == ("m3", now_ms - 7, True)
    due = await later.due(0, now_ms)
    assert [(one.key.split()[1], one.targets, one.in_hand) for one in due] == [
        ("m3", 2, True),
        ("m1", 2, False),
        ("m2", 2, False),
    ]
    await later.sent([taken.key])
    assert await later.take_in_hand(0, []) == []


async def test_call_back(site: Site) -> None:
    """What waits is gone; what is in hand is told of, and stays."""
    later, at_ms = _later(site), _now_ms() + FAR_MS
    one, other = _waiting("m", at_ms, "user:a", "user:b"), _waiting("m", at_ms, "all")
    await later.keep([one, other, _waiting("n", at_ms, "all")])
    await later.take_in_hand(0, [other.key])
    assert await later.cancel("m") == Cancelled(2, 1)
    assert await later.cancel("m") == Cancelled(0, 1)
    assert [found.key for found in await later.waiting_with_id("m")] == [other.key]
    assert len(await later.waiting_with_id("n")) == 1


async def test_database_without_the_indexes_is_refused(site: Site) -> None:
    """With what to do about it."""
    await _later(site).check()
    for name in INDEXES:
        await site.mongo[site.settings.mongo_database].later.drop_index(name)
    with pytest.raises(SetupError, match="pushway migrate"):
        await _later(site).check()


async def test_waits_and_is_sent_once_when_due(site: Site) -> None:
    """Appended twice, it waits once, and `in` is done with it; then it has a seq, its own time, and all of its `ttl`."""
    at_ms = _now_ms() + 700
    for _ in range(2):
        await site.redis.xadd(site.keys(0).intake(), {"to": "user:a,user:b", "id": "m", "text": "hi", "at": at_ms, "ttl": 60})
    await site.settle()
    async with site.working():
        await site.has_lines(2)
    documents = await site.stored()
    assert all(document["stored_at"].timestamp() * 1000 >= at_ms for document in documents)
    assert {document["_id"] for document in documents} == {"user:a m", "user:b m"}
    assert all(f'"ts":{at_ms}' in document["frame"] for document in documents)
    assert {int(document["expires_at"].timestamp() * 1000) for document in documents} == {at_ms + 60_000}
    assert await _later(site).waiting_with_id("m") == []
    await site.nothing_is_left()


async def test_what_cannot_be_stored_when_due_is_a_dead_letter(site: Site) -> None:
    """The counters of one of two targets are broken: the other has the message."""
    await site.redis.set(site.keys(0).seq("user:broken"), "by hand")
    at = _now_ms() + 300
    await site.redis.xadd(site.keys(0).intake(), {"to": "user:a,user:broken", "id": "m", "body": '{"a": 1}', "at": at})
    async with site.working():
        await site.has_lines(1)
        await site.has_dead(1)
    (dead,) = await site.dead()
    assert (dead["to"], dead["id"], dead["body"]) == ("user:broken", "m", '{"a":1}')
    assert dead["reason"].startswith("the counters of user:broken are broken")
    assert [document["target"] for document in await site.stored()] == ["user:a"]
