"""lua/dispatch.lua through Outlet: what it tells of messages that are traced, and what it spares those that are not."""

from __future__ import annotations

import pytest

from router.lines import build_frame, build_line
from router.trace import TraceEvent, read_event
from tests.scripts.shard import HELD, Shard, line, now_ms

pytestmark = pytest.mark.anyio


def _traced(target: str, seq: int | None, *, message_id: str = "m1", expires_ms: int | None = None, text: str = "hi") -> str:
    frame = build_frame(target, seq, message_id, 0, f'"text":"{text}"')
    return build_line(target, None if seq is None else seq - 1, seq, expires_ms, frame, trace=True)


async def _events(shard: Shard) -> list[TraceEvent | None]:
    return [read_event(fields) for _, fields in await shard.redis.xrange(shard.keys.trace())]


async def test_dispatched_with_nodes(shard: Shard) -> None:
    """A traced line is told with its id, target, seq and every node that it was published to, by the lease's owner."""
    await shard.route("a", "edge.1", "edge.2")
    await shard.put_out(_traced("user:a", 1_732_262_400_123_456, expires_ms=now_ms() + 60_000))
    before_us = now_ms() * 1_000
    async with shard.listening("push:{0}:node:edge.1", "push:{0}:node:edge.2"):
        await shard.outlet.dispatch(HELD, 10)
    (event,) = await _events(shard)
    assert event is not None
    assert event == TraceEvent(
        "m1", "user:a", "dispatched", event.at_us, "me", seq=1_732_262_400_123_456, nodes=("edge.1", "edge.2")
    )
    assert before_us <= event.at_us <= (now_ms() + 1) * 1_000


async def test_fields_stand_in_the_order_of_the_contract(shard: Shard) -> None:
    """As redis-cli shows them: id, to, stage, at, by, then what there is besides."""
    await shard.route("a", "edge.1")
    await shard.put_out(_traced("user:a", 7))
    async with shard.listening("push:{0}:node:edge.1"):
        await shard.outlet.dispatch(HELD, 10)
    (fields,) = await shard.entries(shard.keys.trace())
    assert list(fields) == ["id", "to", "stage", "at", "by", "seq", "nodes"]


async def test_offline_with_reason(shard: Shard) -> None:
    """Without a route it is offline alone; a route that may lead nowhere is both dispatched and offline."""
    await shard.route("a", "edge.1")
    await shard.put_out(_traced("user:nobody", 1, message_id="m1"), _traced("user:a", 2, message_id="m2"))
    await shard.outlet.dispatch(HELD, 10)
    told = [(event.id, event.stage, event.nodes, event.why) for event in await _events(shard) if event]
    assert told == [
        ("m1", "offline", (), "no_route"),
        ("m2", "dispatched", ("edge.1",), None),
        ("m2", "offline", (), "nobody_listening"),
    ]


async def test_transient_has_no_seq(shard: Shard) -> None:
    """It is told all the same, though nothing is reported offline of it."""
    await shard.put_out(_traced("user:nobody", None))
    await shard.outlet.dispatch(HELD, 10)
    (fields,) = await shard.entries(shard.keys.trace())
    assert list(fields) == ["id", "to", "stage", "at", "by", "why"]
    assert await shard.entries(shard.keys.offline()) == []


async def test_topic_has_no_nodes(shard: Shard) -> None:
    """A topic's channel has no list of who hears it."""
    await shard.put_out(_traced("topic:news", 3), _traced("all", 4))
    await shard.outlet.dispatch(HELD, 10)
    assert [(event.to, event.stage, event.nodes) for event in await _events(shard) if event] == [
        ("topic:news", "dispatched", ()),
        ("all", "dispatched", ()),
    ]


@pytest.mark.parametrize(
    "untraced",
    [
        line("user:a", 1, text="trace=1"),
        line("user:a", 1, text=" - {"),
        line("user:a", 1, expires_ms=2**41, text=" trace=1 {"),
        "user:a 0 1 trace=0 {}",
        "user:a 0 1 xtrace=1 {}",
        "user:trace=1 0 1 - {}",
        "user:a 0 1 trace=1",
        "user:a trace=1",
    ],
)
async def test_untraced_lines_are_not_told(shard: Shard, untraced: str) -> None:
    """Only the opts decide, whatever stands in target and frame."""
    await shard.put_out(untraced)
    await shard.outlet.dispatch(HELD, 10)
    assert await shard.redis.exists(shard.keys.trace()) == 0


@pytest.mark.parametrize("text", [" - {", '","id":"other', " trace=0 {"])
async def test_the_frame_cannot_hide_a_trace(shard: Shard, text: str) -> None:
    """What a producer writes into a body neither switches a trace off nor gives it another id."""
    await shard.put_out(_traced("user:a", 1, text=text))
    await shard.outlet.dispatch(HELD, 10)
    assert [event.id for event in await _events(shard) if event] == ["m1"]


async def test_broken_trace_stream_stops_nothing(shard: Shard) -> None:
    """A key of another type in its place costs the event, and no message."""
    await shard.redis.set(shard.keys.trace(), "not a stream")
    await shard.route("a", "edge.1")
    await shard.put_out(_traced("user:a", 1))
    async with shard.listening("push:{0}:node:edge.1") as ear:
        result = await shard.outlet.dispatch(HELD, 10)
        assert len(await ear.heard()) == 1
    assert (result.taken, result.done, result.published, result.failed_id) == (1, 1, 1, "")


async def test_stream_is_capped(real_shard: Shard) -> None:
    """About `trace_max` events are kept."""
    shard = real_shard.with_settings(trace_max=100)
    await shard.put_out(*(_traced("user:nobody", seq) for seq in range(1, 1_001)))
    await shard.outlet.dispatch(HELD, 2_000)
    assert 100 <= await shard.redis.xlen(shard.keys.trace()) <= 300
