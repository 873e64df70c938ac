"""One XADD, and it is on every screen: the whole system as real processes, spoken to as its users would."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from redis import Redis

from tests.e2e.audience import Audience, Producer, in_order_and_once, numbers
from tests.stack import Stack

pytestmark = pytest.mark.anyio

IN = "push:{0}:in"
DEAD = "push:{0}:dead"
OFFLINE = "push:{0}:offline"


@pytest.fixture(scope="module", params=["valkey", "redis-server"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with two edges, on each kind of server."""
    with Stack(tmp_path_factory.mktemp("stack"), redis=request.param) as stack:
        yield stack


@pytest.fixture
def redis(stack: Stack) -> Iterator[Redis]:
    """Yield a producer's connection."""
    with stack.redis_client() as client:
        yield client


def redis_cli(stack: Stack, *words: str) -> str:
    """Run redis-cli as a person would and return what it prints."""
    command = ["redis-cli", "-u", stack.settings.redis_url, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


async def test_redis_cli_reaches_two_users_on_two_edges(stack: Stack) -> None:
    """An XADD of redis-cli arrives at each user, on whichever edge holds the connection."""
    async with Audience(stack) as audience:
        ann, bob = await audience.join("ann", 0), await audience.join("bob", 1)
        redis_cli(stack, "XADD", IN, "*", "to", "user:ann", "body", '{"text":"hello ann"}')
        redis_cli(stack, "XADD", IN, "*", "to", "user:bob", "text", "hello bob\n")
        await audience.until(lambda: bool(ann.messages and bob.messages))

    assert ann.bodies == [{"text": "hello ann"}]
    assert bob.bodies == ["hello bob\n"]
    assert ann.nodes[0].split(".")[0] != bob.nodes[0].split(".")[0]


async def test_one_user_on_both_edges(stack: Stack, redis: Redis) -> None:
    """A user with sessions on two edges, and two on one of them, has every message on each, once and in order."""
    async with Audience(stack) as audience:
        seats = [await audience.join("carol", edge) for edge in (0, 1, 1)]
        for n in range(50):
            redis.xadd(IN, {"to": "user:carol", "body": json.dumps(n)})
        await audience.until(lambda: all(len(seat.messages) >= 50 for seat in seats))

    assert all(seat.bodies == list(range(50)) for seat in seats)
    assert seats[0].seqs == seats[1].seqs == seats[2].seqs
    assert in_order_and_once(seats)


async def test_stored_first_in_order_once(stack: Stack, redis: Redis) -> None:
    """What arrives is in MongoDB under the same seq, each message one document; repeated ids leave no gap."""
    async with Audience(stack) as audience:
        seat = await audience.join("dora", 0)
        for n in range(20):
            redis.xadd(IN, {"to": "user:dora", "body": json.dumps(n), "id": f"d-{n}"})
            redis.xadd(IN, {"to": "user:dora", "body": json.dumps(n), "id": f"d-{n}"})
        await audience.until(lambda: len(seat.messages) >= 20)
        assert seat.bodies == list(range(20))

    with stack.mongo_client() as mongo:
        stored = list(mongo.pushway.inbox.find({"target": "user:dora"}).sort("seq", 1))
    assert [document["seq"] for document in stored] == seat.seqs
    assert [json.loads(document["frame"]) for document in stored] == seat.messages
    assert all(before <= document["prev"] < document["seq"] for before, document in zip([0, *seat.seqs], stored, strict=False))
    assert all(stack[edge].metric("pushway_gaps_total") == 0 for edge in ("edge-1", "edge-2"))


async def test_unknown_user_is_reported_offline(stack: Stack, redis: Redis) -> None:
    """A message for someone without a connection is stored, and reported to the offline stream."""
    async with Audience(stack) as audience:
        witness = await audience.join("witness", 0)
        redis.xadd(IN, {"to": "user:nobody", "text": "anyone?", "id": "n-1"})
        redis.xadd(IN, {"to": "user:witness", "text": "after"})
        await audience.until(lambda: bool(witness.messages))

    report = newest(redis, OFFLINE, 1)[0]
    assert report[b"to"] == b"user:nobody"
    assert report[b"reason"] == b"no_route"
    assert json.loads(report[b"frame"])["id"] == "n-1"
    with stack.mongo_client() as mongo:
        assert mongo.pushway.inbox.count_documents({"_id": "user:nobody n-1"}) == 1


def newest(redis: Redis, stream: str, count: int) -> list[dict[bytes, bytes]]:
    """Return the fields of a stream's newest entries."""
    reply: Any = redis.xrevrange(stream, count=count)
    return [fields for _, fields in reply]


def malformed(rng: random.Random) -> dict[bytes, bytes]:
    """Return an entry that breaks the contract in one of many ways."""
    noise = rng.randbytes(rng.randrange(1, 40))
    ways: list[dict[bytes, bytes]] = [
        {b"body": b"1"},
        {b"to": b"user:erin"},
        {b"to": b"user:erin", b"body": b"{" + noise},
        {b"to": b"user:erin", b"body": b"\xff" + noise},
        {b"to": b"user:erin", b"text": b"\xfe" + noise},
        {b"to": b"user:erin", b"body": b"1", b"text": b"both"},
        {b"to": b"user:er in", b"body": b"1"},
        {b"to": b"user:erin,nobody", b"body": b"1"},
        {b"to": b"user:{erin}", b"body": b"1"},
        {b"to": b"user:erin", b"body": b"1", b"ttl": b"soon"},
        {b"to": b"user:erin", b"body": b"1", b"id": b"a b"},
        {b"to": b"user:erin", b"body": b"1", b"wat": noise},
        {b"to": b"user:erin", b"body": b'"' + b"x" * 65_536 + b'"'},
        {b"to": b"user:erin", b"body": b"[" * 5_000},
        {b"to": b"user:erin", b"body": b'"\x0auser:mallory 1 2 - {}"'},
    ]
    return rng.choice(ways)


async def test_malformed_entries_among_good_ones(stack: Stack, redis: Redis) -> None:
    """None of the good is lost or moved by the bad around it, and each of the bad is kept with its reason."""
    rng = random.Random(7)  # noqa: S311 - a fixed seed makes the run repeatable
    before = redis.xlen(DEAD)
    good = bad = 0
    async with Audience(stack) as audience:
        seat = await audience.join("erin", 1)
        for _ in range(400):
            if rng.random() < 0.4:
                redis.xadd(IN, malformed(rng))  # type: ignore[arg-type]  # a dict of bytes is a dict of fields
                bad += 1
            else:
                redis.xadd(IN, {"to": "user:erin", "body": json.dumps(good)})
                good += 1
        await audience.until(lambda: len(seat.messages) >= good)

    assert seat.bodies == list(range(good))
    dead = newest(redis, DEAD, bad)
    assert redis.xlen(DEAD) - before == bad
    assert all(fields[b"reason"] and fields[b"source"] == IN.encode() for fields in dead)


async def test_transient(stack: Stack, redis: Redis) -> None:
    """A transient message arrives without a seq and is not stored."""
    async with Audience(stack) as audience:
        seat = await audience.join("finn", 0)
        redis.xadd(IN, {"to": "user:finn", "text": "typing", "transient": "1"})
        await audience.until(lambda: bool(seat.messages))

    assert seat.bodies == ["typing"]
    assert "seq" not in seat.messages[0]
    with stack.mongo_client() as mongo:
        assert mongo.pushway.inbox.count_documents({"target": "user:finn"}) == 0


async def test_ttl(stack: Stack, redis: Redis) -> None:
    """A message whose time was over before it came through is stored, and not delivered."""
    async with Audience(stack) as audience:
        seat = await audience.join("gwen", 0)
        stack["collect"].pause()
        redis.xadd(IN, {"to": "user:gwen", "text": "too late", "ttl": "1"})
        await anyio.sleep(1.1)  # the time to live itself is what has to pass
        stack["collect"].resume()
        redis.xadd(IN, {"to": "user:gwen", "text": "in time", "ttl": "60"})
        await audience.until(lambda: bool(seat.messages))

    assert seat.bodies == ["in time"]
    with stack.mongo_client() as mongo:
        assert mongo.pushway.inbox.count_documents({"target": "user:gwen"}) == 2


async def test_twenty_thousand_messages(stack: Stack) -> None:
    """20,000 durable messages to 200 users on two edges: each arrives once and in order on every session."""
    users = tuple(f"crowd-{n}" for n in range(200))
    async with Audience(stack) as audience:
        for user in users:
            await audience.join(user, 0)
            await audience.join(user, 1)
        producer = Producer(stack, users)
        await producer.send(20_000)
        await audience.until(lambda: all(len(seat.messages) >= 100 for seat in audience.seats), timeout_s=180)

    assert in_order_and_once(audience.seats)
    assert all(numbers(seat) == producer.sent[seat.user] for seat in audience.seats)
