"""edge.topic_events: which comings and goings are written, in which order, and what is dropped."""

from __future__ import annotations

from typing import Any, cast

import anyio
import pytest
from fakeredis import FakeAsyncRedis
from redis.exceptions import ConnectionError as RedisConnectionError

from edge import topic_events
from edge.feed import Feed
from edge.position import Outlet
from edge.topic_events import TopicEvents
from router.metrics import EVENTS_DROPPED
from router.ops import Health
from router.outage import Outages
from router.settings import Settings
from router.shards import shard_of_id
from tests.unit.edge.outlets import feed

pytestmark = pytest.mark.anyio

SETTINGS = Settings(events_topics=("room-*",), events_max=1_000)


class Desk:
    """The events of one node, whose sessions are `<user>/<number>`."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.redis: Any = FakeAsyncRedis()
        self.events = TopicEvents(self.redis, settings, "me", self.user_of, Outages(Health(), settings))
        self.feeds: dict[str, Feed] = {}

    @staticmethod
    def user_of(outlet: Outlet) -> str:
        """Return the user in a session's name."""
        return str(outlet).partition("/")[0]

    def come(self, session: str, topic: str = "room-1") -> None:
        """Have a session subscribe."""
        self.events.came(feed(f"topic:{topic}"), cast("Outlet", session))

    def go(self, session: str, topic: str = "room-1") -> None:
        """Have it leave."""
        self.events.went(feed(f"topic:{topic}"), cast("Outlet", session))

    async def written(self) -> list[tuple[str, ...]]:
        """Return the events in the stream, when all are written."""
        await self.events.flush()
        found = await self.redis.xrange("push:{0}:events")
        return [tuple(value.decode() for value in fields.values()) for _, fields in found]


async def test_the_first_session_and_the_last_are_told() -> None:
    """Of a user, whatever happens in between."""
    desk = Desk()
    for session in ("ann/1", "ann/2", "bob/1"):
        desk.come(session)
    for session in ("ann/1", "ann/2"):
        desk.go(session)
    desk.come("ann/3")
    assert await desk.written() == [
        ("subscribed", "ann", "room-1", "me"),
        ("subscribed", "bob", "room-1", "me"),
        ("unsubscribed", "ann", "room-1", "me"),
        ("subscribed", "ann", "room-1", "me"),
    ]


async def test_other_topics_are_not_told() -> None:
    """Only those that a pattern covers; unless set, none."""
    desk = Desk()
    desk.come("ann/1", "hall")
    desk.go("ann/1", "hall")
    assert await desk.written() == []


async def test_who_is_subscribed_is_said_anew() -> None:
    """Of one shard's users, once each, and of nobody who has left."""
    desk = Desk(SETTINGS.model_copy(update={"shards": 2}))
    users = [f"u{n}" for n in range(8)]
    for user in users:
        desk.come(f"{user}/1")
        desk.come(f"{user}/2")
    desk.come("x/1")
    desk.go("x/1")
    await desk.events.flush()
    await desk.redis.flushall()
    desk.events.say_anew(0)
    assert await desk.written() == [("subscribed", user, "room-1", "me") for user in users if shard_of_id(user, 2) == 0]
    assert not await desk.redis.exists("push:{1}:events")


async def test_nothing_is_kept_of_who_has_gone() -> None:
    """Topics come and go."""
    desk = Desk()
    desk.come("ann/1")
    desk.go("ann/1")
    await desk.events.flush()
    assert not desk.events._sessions
    assert not desk.events._waiting


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes beyond is dropped and counted."""
    monkeypatch.setattr(topic_events, "WAITING_MAX", 2)
    desk, before = Desk(), EVENTS_DROPPED._value.get()
    for number in range(5):
        desk.come(f"u{number}/1")
    assert EVENTS_DROPPED._value.get() - before == 3
    assert len(await desk.written()) == 2


async def test_what_redis_did_not_take_is_written_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which it happened."""
    desk = Desk()

    def fail(*_: object, **__: object) -> None:
        raise RedisConnectionError("away")

    async with anyio.create_task_group() as tasks:
        with monkeypatch.context() as patched:
            patched.setattr(desk.redis, "pipeline", fail)
            desk.come("ann/1")
            tasks.start_soon(desk.events.run)
            await anyio.wait_all_tasks_blocked()
            desk.go("ann/1")
        assert [event[0] for event in await desk.written()] == ["subscribed", "unsubscribed"]
        tasks.cancel_scope.cancel()


async def test_what_one_shard_refuses_is_not_written_twice_to_another() -> None:
    """All else is written once, however often the refused is tried; and that in order, when it can be."""
    desk = Desk(SETTINGS.model_copy(update={"shards": 2, "backoff_min_ms": 1, "backoff_max_ms": 2}))
    users = [f"u{n}" for n in range(8)]
    broken = [user for user in users if shard_of_id(user, 2) == 0]
    assert 0 < len(broken) < len(users)
    await desk.redis.set("push:{0}:events", "by hand")
    for user in users:
        desk.come(f"{user}/1")
    for _ in range(3):
        await desk.events.flush()
    assert await desk.redis.xlen("push:{1}:events") == len(users) - len(broken)
    await desk.redis.delete("push:{0}:events")
    assert [event[1] for event in await desk.written()] == broken
    assert await desk.redis.xlen("push:{1}:events") == len(users) - len(broken)
