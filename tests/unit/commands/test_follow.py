"""router.commands.follow: when a message is delivered, when nothing more is to be waited for, and reading as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import fakeredis
import pytest

from router.commands import follow as module
from router.commands.follow import Progress, ends, follow
from router.settings import Settings
from router.trace import TraceEvent, Tracer

ALICE, BOB = "user:alice", "user:bob"
SETTINGS = Settings(shards=3)


def _event(stage: str, by: str = "w", to: str = ALICE, **more: Any) -> TraceEvent:  # noqa: ANN401 - fields
    return TraceEvent("m", to, stage, 1, by, **more)


def _progress(*events: TraceEvent, targets: tuple[str, ...] = (ALICE,)) -> Progress:
    progress = Progress(targets)
    for event in events:
        progress.take(event)
    return progress


APPENDED = _event("appended")
BOTH = _event("dispatched", seq=1, nodes=("e1", "e2"))
FIRST = _event("delivered", "e1", seq=1, session="s1")
SECOND = _event("replayed", "e2", seq=1, session="s2")


def test_delivered_when_every_node_has() -> None:
    """Live or from the inbox, in whatever order the events come."""
    assert not _progress().over
    assert not _progress(BOTH).over
    assert not _progress(BOTH, FIRST).delivered
    assert _progress(BOTH, FIRST, SECOND).delivered
    assert _progress(FIRST, SECOND, BOTH).over


def test_each_target_counts() -> None:
    """All of them are to have it; events of another target are not theirs."""
    both = (ALICE, BOB)
    assert not _progress(BOTH, FIRST, SECOND, targets=both).over
    bob = _event("dispatched", to=BOB, nodes=("e1",)), _event("delivered", "e1", to=BOB)
    assert _progress(BOTH, FIRST, SECOND, *bob, targets=both).delivered
    assert _progress(BOTH, FIRST, SECOND, _event("stored", to="user:eve"), *bob, targets=both).delivered


@pytest.mark.parametrize(
    "ending", [_event("dead", why="too long"), _event("expired", why="late"), _event("offline", why="no_route")]
)
def test_over_without_being_delivered(ending: TraceEvent) -> None:
    """Dead, expired, or nobody there: there is nothing to wait for, and the reason is told."""
    progress = _progress(_event("appended"), ending)
    assert (progress.over, progress.delivered) == (True, False)
    assert progress.troubles == {ALICE: f"{ending.stage}: {ending.why}"}


def test_a_doubtful_route_is_waited_for() -> None:
    """Offline behind a dispatch is a suspicion: the message may arrive all the same."""
    progress = _progress(BOTH, _event("offline", why="node_lapsed"), FIRST)
    assert not progress.over
    assert progress.troubles == {ALICE: "not delivered yet by e2"}
    assert _progress(_event("offline", why="node_lapsed"), BOTH, FIRST, SECOND).troubles == {}


def test_topics_have_no_list_of_nodes() -> None:
    """One node that has delivered is all that can be known."""
    dispatched = _event("dispatched", to="topic:news")
    assert not _progress(dispatched, targets=("topic:news",)).delivered
    assert _progress(dispatched, _event("delivered", "e1", to="topic:news"), targets=("topic:news",)).delivered


def test_complete_when_acked_by_every_session() -> None:
    """And told of by collect, which may come last; transient messages are acknowledged by nobody, and not waited for."""
    assert not _progress(APPENDED, BOTH, FIRST, SECOND, _event("acked", "e1", session="s1")).complete
    acks = _event("acked", "e1", session="s1"), _event("acked", "e2", session="s2")
    assert not _progress(BOTH, FIRST, SECOND, *acks).complete
    assert _progress(BOTH, FIRST, SECOND, *acks, APPENDED).complete
    assert _progress(APPENDED, _event("dispatched", nodes=("e1",)), _event("delivered", "e1", session="s1")).complete


def test_nothing_was_heard() -> None:
    """What is missing is named."""
    assert _progress().troubles == {ALICE: "not dispatched yet"}


@pytest.fixture
async def redis() -> AsyncIterator[Any]:
    """Yield an empty Redis."""
    async with fakeredis.FakeAsyncRedis(protocol=2, version=(7,), server=fakeredis.FakeServer(version=(7,))) as client:
        yield client


@pytest.mark.anyio
async def test_following_ends_when_all_is_acknowledged(redis: Any) -> None:  # noqa: ANN401 - a driver's client
    """Events of two shards, those from before and of other messages left out; each is told of as it comes."""
    tracer, progress, seen = Tracer(redis, SETTINGS), Progress((ALICE, BOB)), list[int]()
    await tracer.write("old", [_event("appended"), _event("appended", to=BOB)])
    begins = await ends(redis, SETTINGS, (ALICE, BOB))
    assert len(begins) == 2

    async def happen() -> None:
        for to in (ALICE, BOB):
            await tracer.write("w", [_event("dispatched", to=to, nodes=("e1",))])
        await tracer.write("w", [TraceEvent("other", ALICE, "dead", 1)])
        for to in (ALICE, BOB):
            await tracer.write("e1", [_event("delivered", to=to, seq=1, session=to), _event("acked", to=to, seq=1, session=to)])
            await tracer.write("w", [_event("appended", to=to)])

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(happen)
            await follow(redis, begins, "m", progress, lambda: seen.append(len(progress.events)), wait_s=60.0)
    assert progress.delivered
    assert progress.complete
    assert seen == list(range(1, 9))
    assert {event.by for event in progress.events} == {"w", "e1"}


@pytest.mark.anyio
async def test_following_ends_without_acks(redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401 - likewise
    """Many a client sends none: they are waited for a moment only."""
    monkeypatch.setattr(module, "REST_S", 0.05)
    progress = Progress((ALICE,))
    await Tracer(redis, SETTINGS).write("e1", [_event("dispatched", nodes=("e1",)), FIRST])
    with anyio.fail_after(60):
        await follow(redis, dict.fromkeys(await ends(redis, SETTINGS, (ALICE,)), "0-0"), "m", progress, lambda: None, 60.0)
    assert (progress.delivered, progress.complete) == (True, False)


@pytest.mark.anyio
async def test_following_ends_at_its_limit(redis: Any) -> None:  # noqa: ANN401 - a driver's client
    """Whatever is missing then."""
    progress = Progress((ALICE,))
    with anyio.fail_after(60):
        await follow(redis, await ends(redis, SETTINGS, (ALICE,)), "m", progress, lambda: None, 0.05)
    assert not progress.over
