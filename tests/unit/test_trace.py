"""router.trace: events as they stand in Redis, and writes that never get in a message's way."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import fakeredis
import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from router.keys import Keys
from router.settings import Settings
from router.shards import shard_of_target
from router.trace import WRITE_TIMEOUT_S, Stage, TraceEvent, Tracer, by_time, read_event, read_events

pytestmark = pytest.mark.anyio

SETTINGS = Settings(shards=4)
FULL = TraceEvent(
    "m1", "user:a", Stage.DELIVERED, 1_732_262_400_123_456, "w", 7, "s1", "phone", ("edge.1", "edge.2"), "so", "00-ab-cd-01"
)


@pytest.fixture
async def redis() -> AsyncIterator[Any]:
    """Yield an empty Redis."""
    async with fakeredis.FakeAsyncRedis(protocol=2, version=(7,), server=fakeredis.FakeServer(version=(7,))) as client:
        yield client


def _lost() -> float:
    return REGISTRY.get_sample_value("pushway_trace_lost_total") or 0.0


@pytest.mark.parametrize("event", [FULL, TraceEvent("m1", "all", "appended", 1, "w")])
async def test_event_comes_back_as_it_was_written(redis: Any, event: TraceEvent) -> None:  # noqa: ANN401 - a driver's client
    """Every field of it, or only those that each event has."""
    assert await Tracer(redis, SETTINGS).write("w", [event])
    assert await read_events(redis, SETTINGS, "m1") == [event]


def test_fields_stand_in_the_order_of_the_contract() -> None:
    """Id, to, stage, at, by, then what there is besides."""
    assert " ".join(FULL.fields("w")) == "id to stage at by seq session device nodes why traceparent"
    assert " ".join(TraceEvent("m", "all", "stored", 1).fields("w")) == "id to stage at by"


async def test_events_lie_in_the_shard_of_their_target(redis: Any) -> None:  # noqa: ANN401 - a driver's client
    """And are found in whichever it is, other messages left out."""
    targets = [f"user:u{n}" for n in range(20)]
    await Tracer(redis, SETTINGS).write("w", [TraceEvent("m", to, "stored", n) for n, to in enumerate(targets)])
    await Tracer(redis, SETTINGS).write("w", [TraceEvent("other", "user:u1", "stored", 1)])
    for shard in range(4):
        found = [fields[b"to"].decode() for _, fields in await redis.xrange(Keys("push", shard).trace())]
        assert all(shard_of_target(to, 4) == shard for to in found)
    assert [event.to for event in await read_events(redis, SETTINGS, "m")] == targets


async def test_more_events_than_a_page(redis: Any) -> None:  # noqa: ANN401 - a driver's client
    """A stream is read to its end."""
    events = [TraceEvent(f"m{n % 2}", "user:a", "stored", n) for n in range(2_500)]
    await Tracer(redis, SETTINGS).write("w", events)
    assert len(await read_events(redis, SETTINGS, "m1")) == 1_250


@pytest.mark.parametrize("fields", [{}, {b"id": b"m"}, {b"id": b"m", b"to": b"x", b"stage": b"y", b"at": b"soon", b"by": b"z"}])
def test_what_is_no_event_is_none(fields: dict[bytes, bytes]) -> None:
    """Anybody may append to a stream."""
    assert read_event(fields) is None


def test_events_of_one_moment_stand_in_the_order_of_stages() -> None:
    """By time first; a stage that is not known comes behind those that are."""
    stages = ["acked", "new_stage", "delivered", "appended", "dispatched", "stored"]
    events = [TraceEvent("m", "user:a", stage, 5) for stage in stages] + [TraceEvent("m", "user:a", "acked", 4)]
    assert [event.stage for event in by_time(events)] == [
        "acked", "appended", "stored", "dispatched", "delivered", "acked", "new_stage",
    ]  # fmt: skip


async def test_a_refused_event_is_dropped_and_counted(redis: Any) -> None:  # noqa: ANN401 - a driver's client
    """The others of the same write stand."""
    broken = Keys("push", shard_of_target("user:u1", 4)).trace()
    await redis.set(broken, "not a stream")
    here = next(f"user:u{n}" for n in range(99) if Keys("push", shard_of_target(f"user:u{n}", 4)).trace() != broken)
    lost = _lost()
    assert not await Tracer(redis, SETTINGS).write(
        "w", [TraceEvent("m", "user:u1", "stored", 1), TraceEvent("m", here, "stored", 1)]
    )
    assert _lost() == lost + 1
    await redis.delete(broken)
    assert [event.to for event in await read_events(redis, SETTINGS, "m")] == [here]


async def test_a_redis_that_hangs_costs_a_moment() -> None:
    """A write is given up, whatever the timeout of other commands."""
    with socket.create_server(("127.0.0.1", 0)) as listener:  # the kernel accepts, and nobody answers
        port = listener.getsockname()[1]
        lost, began = _lost(), time.monotonic()
        async with Redis(port=port, protocol=2, socket_timeout=60.0) as redis:
            assert not await Tracer(redis, SETTINGS).write("w", [FULL, FULL])
        assert WRITE_TIMEOUT_S <= time.monotonic() - began < 20 * WRITE_TIMEOUT_S
        assert _lost() == lost + 2
