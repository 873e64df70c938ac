"""The fast lane from stream to socket: real processes, two shards, two edges, and producers who mean no good."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import anyio
import pytest
from redis import Redis

from router.keys import Keys
from router.shards import shard_of_id
from tests.e2e.audience import PATIENCE_S, Audience
from tests.stack import Stack

pytestmark = pytest.mark.anyio

SHARDS = 2
VICTIM = next(f"victim-{n}" for n in range(100) if shard_of_id(f"victim-{n}", SHARDS) == 0)
OTHER = next(f"other-{n}" for n in range(100) if shard_of_id(f"other-{n}", SHARDS) == 1)

TO_VICTIM = ("to", f"user:{VICTIM}")
FORGED = f'{{"type":"message","to":"user:{OTHER}","id":"x","ts":0,"body":"forged"}}'

# What the script sees, and what is left for the edge to see.
DEADLY: dict[str, Sequence[str | bytes]] = {
    "newline": (*TO_VICTIM, "body", f'"a"\nuser:{OTHER} - - - {FORGED}'),
    "newline in an id": (*TO_VICTIM, "body", "1", "id", f"a\nuser:{OTHER} - - - {FORGED}"),
    "newline in a target": ("to", f"user:{VICTIM}\nuser:{OTHER}", "body", "1"),
    "control byte": (*TO_VICTIM, "body", b'"\x01"'),
    "DEL": (*TO_VICTIM, "body", b'"\x7f"'),
    "quote in an id": (*TO_VICTIM, "body", "1", "id", f'a","to":"user:{OTHER}'),
    "oversized": (*TO_VICTIM, "body", '"' + "x" * 65_536 + '"'),
    "two contents": (*TO_VICTIM, "body", "1", "text", "1"),
    "content twice": (*TO_VICTIM, "body", "1", "body", "2"),
    "no content": TO_VICTIM,
    "no target": ("body", "1"),
    "two targets": ("to", f"user:{VICTIM},user:{OTHER}", "body", "1"),
    "another field": (*TO_VICTIM, "body", "1", "tll", "1"),
    "durable": (*TO_VICTIM, "body", "1", "transient", "0"),
}
REFUSED: dict[str, Sequence[str | bytes]] = {
    "forged member": (*TO_VICTIM, "body", f'1,"to":"user:{OTHER}"'),
    "forged end": (*TO_VICTIM, "body", f"1}}{FORGED}"),
    "not UTF-8": (*TO_VICTIM, "body", b'"\xff"'),
    "text not UTF-8": (*TO_VICTIM, "text", b"\xe2\x82"),
    "overlong": (*TO_VICTIM, "body", b'"\xc0\xaf"'),
    "half of a pair": (*TO_VICTIM, "body", b'"\xed\xa0\x80"'),
    "escaped half of a pair": (*TO_VICTIM, "body", b'"\\ud800"'),
    "broken JSON": (*TO_VICTIM, "body", '{"a":'),
    "nothing": (*TO_VICTIM, "body", ""),
    "not a number": (*TO_VICTIM, "body", "NaN"),
    "deep": (*TO_VICTIM, "body", "[" * 30_000 + "]" * 30_000),
}


@pytest.fixture(scope="module", params=["valkey", "redis-server"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with two shards and two edges, on each kind of server; nothing is over before it arrives."""
    settings = {"shards": SHARDS, "transient_max_age_ms": 600_000}
    with Stack(tmp_path_factory.mktemp("stack"), redis=request.param, settings=settings) as stack:
        yield stack


@pytest.fixture
def redis(stack: Stack) -> Iterator[Redis]:
    """Yield a producer's connection."""
    with stack.redis_client() as client:
        yield client


def append(redis: Redis, shard: int, *flat: str | bytes) -> None:
    """Append an entry to a shard's fast lane, whatever it says."""
    redis.execute_command("XADD", Keys("push", shard).fast(), "*", *flat)  # type: ignore[no-untyped-call]


def deadly_now(redis: Redis) -> int:
    """Return how many dead letters there are."""
    found: Any = [redis.xlen(Keys("push", shard).dead()) for shard in range(SHARDS)]
    return sum(found)


async def test_hostile_entries_between_good_ones(stack: Stack, redis: Redis) -> None:
    """Exactly the good ones arrive, in order, on every session; nobody else gets anything, and each of the bad is counted."""
    hostile = [*DEADLY.values(), *REFUSED.values()]
    before, refused = deadly_now(redis), stack["edge-1"].metric("pushway_refused_total")
    async with Audience(stack) as audience:
        victims = [await audience.join(VICTIM, 0) for _ in range(3)]
        other = await audience.join(OTHER, 0)
        for n, flat in enumerate(hostile):
            append(redis, 0, *TO_VICTIM, "body", str(n))
            append(redis, 0, *flat)
        append(redis, 0, *TO_VICTIM, "text", "\n\0\x7f end")
        append(redis, 1, "to", f"user:{OTHER}", "text", "end")
        await audience.until(lambda: other.bodies == ["end"] and all("\n\0\x7f end" in seat.bodies for seat in victims))

    for seat in victims:
        assert seat.bodies == [*range(len(hostile)), "\n\0\x7f end"]
        assert {message["to"] for message in seat.messages} == {f"user:{VICTIM}"}
        assert not seat.seqs
    assert other.bodies == ["end"]
    assert deadly_now(redis) - before == len(DEADLY)
    assert stack["edge-1"].metric("pushway_refused_total") - refused == len(REFUSED)
    assert [redis.xlen(Keys("push", shard).fast()) for shard in range(SHARDS)] == [0, 0]


async def test_wrong_shards_are_moved_on(stack: Stack, redis: Redis) -> None:
    """Wherever a producer puts it, each message arrives once on every edge of its user, beside those of the durable path."""
    before = stack["dispatch"].metric("pushway_moved_total")
    async with Audience(stack) as audience:
        seats = {user: [await audience.join(user, edge) for edge in (0, 1)] for user in (VICTIM, OTHER)}
        for n in range(100):
            for user in (VICTIM, OTHER):
                append(redis, n % SHARDS, "to", f"user:{user}", "body", str(n), "id", f"fast-{n}")
                redis.xadd(Keys("push", 0).intake(), {"to": f"user:{user}", "text": str(n)})
        await audience.until(lambda: all(len(seat.messages) >= 200 for seat in audience.seats))

    for user, both in seats.items():
        for seat in both:
            fast = [message for message in seat.messages if "seq" not in message]
            assert sorted(message["body"] for message in fast) == list(range(100))
            assert all(message["id"] == f"fast-{message['body']}" and message["to"] == f"user:{user}" for message in fast)
            assert [message["text"] for message in seat.messages if "seq" in message] == [str(n) for n in range(100)]
    assert stack["dispatch"].metric("pushway_moved_total") - before == 100


async def test_traced(stack: Stack, redis: Redis) -> None:
    """A traced message is told of from its append to each session, and by nobody between."""
    async with Audience(stack) as audience:
        seat = await audience.join(VICTIM, 0)
        append(redis, 0, *TO_VICTIM, "body", "1", "id", "followed", "trace", "1")
        await audience.until(lambda: bool(seat.messages))

        def stages() -> list[str]:
            found: Any = redis.xrange(Keys("push", 0).trace())
            return [fields[b"stage"].decode() for _, fields in found if fields[b"id"] == b"followed"]

        with anyio.fail_after(PATIENCE_S):
            while len(stages()) < 3:  # noqa: ASYNC110 - they stand in Redis
                await anyio.sleep(0.02)
    assert stages() == ["appended", "dispatched", "delivered"]
