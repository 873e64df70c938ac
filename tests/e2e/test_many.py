"""One entry to ten thousand: each gets it once, whoever is away gets it later, and it stands in the store once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from redis import Redis

from tests.e2e.audience import Audience, Seat, in_order_and_once
from tests.servers import wait_until
from tests.stack import Stack

pytestmark = pytest.mark.anyio

IN = "push:{0}:in"
USERS = 10_000
HERE = 100
SETTLE_TIMEOUT_S = 120.0
BODY = {"text": "x" * 1_000}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with two edges, and a lease that passes on soon."""
    with Stack(tmp_path_factory.mktemp("many"), settings={"lease_ms": 1_000}) as stack:
        yield stack


@pytest.fixture
def redis(stack: Stack) -> Iterator[Redis]:
    """Yield a producer's connection."""
    with stack.redis_client() as client:
        yield client


def _to(name: str, count: int = USERS) -> str:
    return ",".join(f"user:{name}{number}" for number in range(count))


async def _seat_them(audience: Audience, name: str, count: int) -> list[Seat]:
    """Spread the first users over both edges and over all of the entry."""
    step = USERS // count
    return [await audience.join(f"{name}{number * step}", number % 2) for number in range(count)]


def _since_the_beginning(stack: Stack, user: str) -> Seat:
    """Return a seat that has had nothing, and says so."""
    return Seat(user, stack.edge_urls[0], messages=[{"seq": 0}])


async def _collected(redis: Redis) -> None:
    """Return when all that was appended is stored."""
    await anyio.to_thread.run_sync(lambda: wait_until(lambda: redis.xlen(IN) == 0, "an empty stream", SETTLE_TIMEOUT_S))


def _bodies(stack: Stack, message_id: str) -> list[dict[str, Any]]:
    with stack.mongo_client() as mongo:
        return list(mongo.pushway.bodies.find({"id": message_id}))


async def test_each_of_ten_thousand_gets_it_once(stack: Stack, redis: Redis) -> None:
    """Those who are here at once, on both edges; some who are away when they come, the frame the same but for to and seq."""
    async with Audience(stack) as audience:
        seats = await _seat_them(audience, "a", HERE)
        redis.xadd(IN, {"to": _to("a"), "body": json.dumps(BODY), "id": "a"})
        await audience.until(lambda: all(seat.messages for seat in seats))
        await _collected(redis)
        redis.xadd(IN, {"to": _to("a", 2), "text": "after", "id": "a2"})
        late = [await audience.come_back(_since_the_beginning(stack, f"a{number}")) for number in (1, 4_999, 9_999)]
        await audience.until(lambda: all(len(seat.messages) > 1 for seat in late) and len(seats[0].messages) > 1)
    assert all(seat.bodies[:1] == [BODY] for seat in seats)
    assert [len(seat.messages) for seat in seats] == [2] + [1] * (HERE - 1)
    assert all(seat.bodies[1] == BODY for seat in late)
    assert [message["to"] for message in (seats[0].messages[0], late[1].messages[1])] == ["user:a0", "user:a4999"]
    (body,) = _bodies(stack, "a")
    assert len(body["content"]) < len(json.dumps(BODY)) + 20
    with stack.mongo_client() as mongo:
        assert mongo.pushway.inbox.count_documents({"id": "a", "body": body["_id"]}) == USERS
        assert mongo.pushway.inbox.count_documents({"id": "a", "frame": {"$exists": True}}) == 0


async def test_repeated_entry_changes_nothing(stack: Stack, redis: Redis) -> None:
    """The same id again is the same message, whatever it says the second time."""
    async with Audience(stack) as audience:
        seats = await _seat_them(audience, "r", 4)
        for text in ("once", "twice"):
            redis.xadd(IN, {"to": _to("r", 100), "text": text, "id": "r"})
        redis.xadd(IN, {"to": "user:r0", "text": "after"})
        await audience.until(lambda: len(seats[0].messages) > 1)
        assert seats[0].bodies == ["once", "after"]


async def test_killed_collect_loses_and_doubles_nothing(stack: Stack, redis: Redis) -> None:
    """It dies while part of an entry is stored; the next one does the rest."""
    async with Audience(stack) as audience:
        seats = await _seat_them(audience, "k", 60)
        redis.xadd(IN, {"to": _to("k"), "body": json.dumps(BODY), "id": "k"})

        def is_under_way() -> bool:
            with stack.mongo_client() as mongo:
                return bool(mongo.pushway.inbox.find_one({"_id": "user:k0 k"}))

        await anyio.to_thread.run_sync(lambda: wait_until(is_under_way, "the first document", SETTLE_TIMEOUT_S))
        stack["collect"].kill()
        with stack.mongo_client() as mongo:
            assert mongo.pushway.inbox.count_documents({"id": "k"}) < USERS
        stack["collect"].start()
        await _collected(redis)
        await audience.until(lambda: all(seat.messages for seat in seats))
        last = await audience.come_back(_since_the_beginning(stack, "k9999"))
        redis.xadd(IN, {"to": _to("k"), "text": "after", "id": "k2"})
        await audience.until(lambda: all(len(seat.messages) > 1 for seat in seats) and len(last.messages) > 2)
    assert all(seat.bodies == [BODY, "after"] for seat in seats)
    assert last.bodies[1:] == [BODY, "after"]
    assert in_order_and_once(seats)
    assert len(_bodies(stack, "k")) == 1
    with stack.mongo_client() as mongo:
        assert mongo.pushway.inbox.count_documents({"id": "k"}) == USERS


async def test_topics_and_all_among_the_targets(stack: Stack, redis: Redis) -> None:
    """Whoever is named twice, as a user and as one of all, gets a message of each."""
    async with Audience(stack) as audience:
        seats = await _seat_them(audience, "m", 4)
        redis.xadd(IN, {"to": f"topic:t,{_to('m', 50)},all", "text": "mixed", "id": "m"})
        await audience.until(lambda: all(len(seat.messages) > 1 for seat in [seats[0]]))
        redis.xadd(IN, {"to": "all", "text": "after"})
        await audience.until(lambda: all(seat.bodies[-1:] == ["after"] for seat in seats))
    targets = [sorted(message["to"] for message in seat.messages[:-1]) for seat in seats]
    assert targets[0] == ["all", "user:m0"]
    assert targets[1:] == [["all"]] * 3


async def test_transient_message_to_ten_thousand(stack: Stack, redis: Redis) -> None:
    """It reaches those who are here, and is nowhere stored."""
    async with Audience(stack) as audience:
        seats = await _seat_them(audience, "t", 60)
        redis.xadd(IN, {"to": _to("t"), "text": "now", "id": "t", "transient": "1"})
        await audience.until(lambda: all(seat.messages for seat in seats))
    assert all(seat.bodies == ["now"] for seat in seats)
    assert not any("seq" in message for seat in seats for message in seat.messages)
    assert _bodies(stack, "t") == []
