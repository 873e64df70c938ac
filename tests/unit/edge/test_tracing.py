"""edge.tracing: what an edge tells of traced messages, live, replayed and acknowledged."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import fakeredis
import pytest
from prometheus_client import REGISTRY

from edge import tracing as module
from edge.delivery import Delivery
from edge.position import Outlet, Position
from edge.tracing import Hearer, Tracing
from router.keys import Keys
from router.lines import build_frame, build_line
from router.settings import Settings
from router.stored import Traced
from router.trace import TraceEvent, Tracer, read_event
from tests.unit.edge.outlets import KeptOutlet

pytestmark = pytest.mark.anyio

TARGET = "user:alice"


class Scene:
    """Alice's sessions on one node, and what has been told of them."""

    def __init__(self, redis: Any, sessions: int = 1) -> None:  # noqa: ANN401 - a driver's client
        self.redis = redis
        self.outlets = [KeptOutlet() for _ in range(sessions)]
        self.positions = [Position(outlet, TARGET, 10_000) for outlet in self.outlets]
        self.acked = [0] * sessions
        self.tracing = Tracing(Tracer(redis, Settings()), "edge.1", self._hearer)
        self.delivery = Delivery({TARGET.encode(): self.positions}, lambda _: None, self.tracing)

    def _hearer(self, outlet: Outlet) -> Hearer:
        at = next(n for n, one in enumerate(self.outlets) if one is outlet)
        return Hearer(f"s{at}", "phone" if at == 0 else None, self.acked[at])

    def receive(self, *lines: str) -> None:
        """Receive one chunk."""
        self.delivery.receive(["\n".join(lines).encode()])

    async def told(self) -> list[TraceEvent]:
        """Return what stands in the trace stream after the next write."""
        await self.tracing.flush()
        events = [read_event(fields) for _, fields in await self.redis.xrange(Keys("push", 0).trace())]
        return [event for event in events if event is not None]

    async def stages(self) -> list[tuple[str, str | None, int | None]]:
        """Return stage, session and seq of what was told."""
        return [(event.stage, event.session, event.seq) for event in await self.told()]


@pytest.fixture
async def redis() -> AsyncIterator[Any]:
    """Yield an empty Redis."""
    async with fakeredis.FakeAsyncRedis(protocol=2, version=(7,), server=fakeredis.FakeServer(version=(7,))) as client:
        yield client


def _frame(seq: int | None) -> str:
    return build_frame(TARGET, seq, f"m{seq}", 0, '"text":"hi"')


def _line(prev: int, seq: int, *, expires_ms: int | None = None, trace: bool = True) -> str:
    return build_line(TARGET, prev, seq, expires_ms, _frame(seq), trace=trace)


async def test_delivered_to_each_session(redis: Any) -> None:  # noqa: ANN401 - a driver's client
    """With session, device where it has one, and the moment; the frame itself comes as ever."""
    scene, before_us = Scene(redis, sessions=2), time.time_ns() // 1_000
    for position in scene.positions:
        position.start(0)
    scene.receive(_line(0, 1, trace=False), _line(1, 2), _line(2, 3, trace=False))
    first, second = await scene.told()
    assert first == TraceEvent("m2", TARGET, "delivered", first.at_us, "edge.1", 2, "s0", "phone")
    assert second == TraceEvent("m2", TARGET, "delivered", second.at_us, "edge.1", 2, "s1")
    assert before_us <= first.at_us <= second.at_us <= time.time_ns() // 1_000
    assert [len(outlet.frames) for outlet in scene.outlets] == [3, 3]


async def test_nothing_is_told_of_untraced_lines(redis: Any) -> None:  # noqa: ANN401 - a driver's client
    """Nor is anything watched for them."""
    scene = Scene(redis)
    scene.positions[0].start(0)
    scene.receive(_line(0, 1, trace=False), _line(1, 2, trace=False, expires_ms=2**41))
    scene.acked = [2]
    assert await scene.told() == []


async def test_a_duplicate_is_told_once(redis: Any) -> None:  # noqa: ANN401 - a driver's client
    """Dispatch may publish twice; the session gets one."""
    scene = Scene(redis)
    scene.positions[0].start(0)
    scene.receive(_line(0, 1), _line(0, 1))
    assert await scene.stages() == [("delivered", "s0", 1)]


async def test_nothing_is_told_of_whom_it_passes_by(redis: Any) -> None:  # noqa: ANN401 - a driver's client
    """Neither that it was delivered, at once or later, nor acknowledged."""
    scene = Scene(redis, sessions=3)
    for outlet in scene.outlets[:2]:
        outlet.names = ("device:alice,phone",)
    for position in scene.positions[::2]:
        position.start(0)
    scene.receive(build_line(TARGET, 0, 1, None, _frame(1), trace=True, exclude="device:alice,phone"))
    scene.positions[1].start(0)
    scene.acked = [1, 1, 1]
    assert await scene.stages() == [("delivered", "s2", 1), ("acked", "s2", 1)]


async def test_transient(redis: Any) -> None:  # noqa: ANN401 - a driver's client
    """It has no seq, and nothing is acknowledged of it; one that is held is told when the session starts."""
    scene = Scene(redis, sessions=2)
    scene.positions[0].start(0)
    scene.receive(build_line(TARGET, None, None, None, _frame(None), trace=True))
    assert await scene.stages() == [("delivered", "s0", None)]
    scene.positions[1].start(0)
    assert await scene.stages() == [("delivered", "s0", None), ("delivered", "s1", None)]


async def test_expired(redis: Any) -> None:  # noqa: ANN401 - a driver's client
    """One event a node, with the reason; nothing is delivered, and the order goes on behind it."""
    scene = Scene(redis, sessions=2)
    for position in scene.positions:
        position.start(0)
    scene.receive(_line(0, 1, expires_ms=1), _line(1, 2))
    assert await scene.stages() == [("expired", None, 1), ("delivered", "s0", 2), ("delivered", "s1", 2)]
    assert (await scene.told())[0].why == "its time was over when it came"


async def test_acked(redis: Any) -> None:  # noqa: ANN401 - a driver's client
    """When the session's ack covers it, once; an ack of less does not."""
    scene = Scene(redis)
    scene.positions[0].start(0)
    scene.receive(_line(0, 5), _line(5, 7))
    scene.acked = [6]
    assert (await scene.stages())[2:] == [("acked", "s0", 5)]
    scene.acked = [9]
    assert (await scene.stages())[2:] == [("acked", "s0", 5), ("acked", "s0", 7)]
    assert (await scene.stages())[4:] == []


async def test_an_ack_is_told_though_the_session_has_gone(redis: Any) -> None:  # noqa: ANN401 - a driver's client
    """A client may acknowledge and leave; one that leaves without is watched no more."""
    scene = Scene(redis, sessions=2)
    for position in scene.positions:
        position.start(0)
    scene.receive(_line(0, 1))
    scene.acked = [1, 0]
    for outlet in scene.outlets:
        outlet.gone = True
    assert (await scene.stages())[2:] == [("acked", "s0", 1)]
    scene.acked = [1, 1]
    assert (await scene.stages())[3:] == []


async def test_held_until_the_head_is_known(redis: Any) -> None:  # noqa: ANN401 - a driver's client
    """Told when the session starts behind it; one that starts above it never gets it."""
    scene = Scene(redis, sessions=2)
    scene.receive(_line(4, 5))
    assert await scene.told() == []
    scene.positions[0].start(4)
    scene.positions[1].start(5)
    assert await scene.stages() == [("delivered", "s0", 5)]


async def test_replayed(redis: Any) -> None:  # noqa: ANN401 - a driver's client
    """A gap is read from the inbox: what came live before is told as replayed, once; what expired there too."""
    scene = Scene(redis)
    (position,) = scene.positions
    position.start(1)
    scene.receive(_line(4, 5))
    page = [Traced(3, _frame(3).encode(), alive=False), Traced(4, _frame(4).encode(), alive=True)]
    position.read(5)
    scene.tracing.replayed(position, [*page, Traced(5, _frame(5).encode(), alive=True)])
    position.arrive(5)
    assert await scene.stages() == [("expired", None, 3), ("replayed", "s0", 4), ("replayed", "s0", 5)]
    scene.acked = [5]
    assert (await scene.stages())[3:] == [("acked", "s0", 4), ("acked", "s0", 5)]


async def test_live_behind_a_replay(redis: Any) -> None:  # noqa: ANN401 - a driver's client
    """What came live while the session was behind is told when it has been put out."""
    scene = Scene(redis)
    (position,) = scene.positions
    position.start(1)
    scene.receive(_line(2, 3, trace=False), _line(3, 4))
    assert await scene.told() == []
    position.read(2)
    assert position.arrive(2)
    assert await scene.stages() == [("delivered", "s0", 4)]


async def test_bounds(redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401 - a driver's client
    """More notes than may wait are dropped and counted; of the messages watched, the oldest are given up."""
    monkeypatch.setattr(module, "NOTES_MAX", 10)
    monkeypatch.setattr(module, "WATCHED_MAX", 3)
    lost = REGISTRY.get_sample_value("pushway_trace_lost_total") or 0
    scene = Scene(redis)
    scene.positions[0].start(0)
    scene.receive(*(_line(seq - 1, seq) for seq in range(1, 13)))
    assert [seq for _, _, seq in await scene.stages()] == list(range(1, 11))
    assert REGISTRY.get_sample_value("pushway_trace_lost_total") == lost + 2
    scene.acked = [12]
    assert (await scene.stages())[10:] == [("acked", "s0", seq) for seq in (10, 11, 12)]


async def test_an_ack_is_not_waited_for_for_ever(redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401 - likewise
    """Many clients never send one."""
    monkeypatch.setattr(module, "WATCH_S", -1.0)
    scene = Scene(redis)
    scene.positions[0].start(0)
    scene.receive(_line(0, 1))
    assert len(await scene.told()) == 1
    scene.acked = [1]
    assert len(await scene.told()) == 1


async def test_fast_lane(redis: Any) -> None:  # noqa: ANN401 - a driver's client
    """A traced line of the fast lane is told of as delivered; one that the edge refuses to send is not."""
    scene = Scene(redis)
    scene.positions[0].start(0)
    line = build_line(TARGET, None, None, 9_999_999_999_999, _frame(None), trace=True).replace(";trace=1", ";fast=1;trace=1")
    scene.receive(line.replace("hi", "\\x"), line)
    assert [len(outlet.frames) for outlet in scene.outlets] == [1]
    assert await scene.stages() == [("delivered", "s0", None)]
