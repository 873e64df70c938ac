"""Who else has subscribed to a topic, on real servers: asked for, watched, and nothing left behind by any of it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis import Redis
from websockets.asyncio.client import ClientConnection, connect

from edge.client import SUBPROTOCOL
from router.members import members_of
from router.redis_client import open_redis
from tests.stack import Stack

pytestmark = pytest.mark.anyio

PATIENCE_S = 60.0
NODE_TTL_MS = 2_000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with two edges."""
    settings = {"node_ttl_ms": NODE_TTL_MS, "members_max": 50, "events_topics": "told-*"}
    with Stack(tmp_path_factory.mktemp("stack"), settings=settings) as stack:
        yield stack


class Client:
    """A connection that keeps what it is told of members, as a client library does."""

    def __init__(self, connection: ClientConnection, user: str) -> None:
        self.connection = connection
        self.user = user
        self.views: dict[str, set[str]] = {}
        self.told: list[dict[str, Any]] = []

    async def say(self, **frame: object) -> None:
        """Send a frame."""
        await self.connection.send(json.dumps(frame))

    async def hear(self) -> dict[str, Any]:
        """Return the next frame, and take in what it tells."""
        with anyio.fail_after(PATIENCE_S):
            frame: dict[str, Any] = json.loads(await self.connection.recv())
        match frame:
            case {"type": "members", "topic": topic, "users": users}:
                self.views[topic] = {*users}
            case {"type": "joined", "topic": topic, "user": user}:
                assert user not in self.views[topic]
                self.views[topic].add(user)
            case {"type": "left", "topic": topic, "user": user}:
                self.views[topic].remove(user)
        self.told.append(frame)
        return frame

    async def until(self, kind: str) -> dict[str, Any]:
        """Return the next frame of this type."""
        while (frame := await self.hear())["type"] != kind:
            pass
        return frame

    async def sees(self, topic: str, *users: str) -> None:
        """Return when it knows exactly these."""
        while self.views.get(topic) != {*users}:
            await self.hear()

    async def subscribe(self, topic: str, **more: object) -> None:
        """Subscribe, and return when that is answered."""
        await self.say(type="subscribe", topic=topic, **more)
        await self.until("subscribed")


@asynccontextmanager
async def client(stack: Stack, user: str, edge: int = 0) -> AsyncIterator[Client]:
    """Yield a client that has been welcomed by edge 0 or 1."""
    bearer = await anyio.to_thread.run_sync(lambda: stack.token(user, topics=["*"]))
    headers = {"Authorization": f"Bearer {bearer}"}
    async with connect(
        stack.edge_urls[edge], subprotocols=[SUBPROTOCOL], additional_headers=headers, proxy=None
    ) as connection:
        made = Client(connection, user)
        await made.until("welcome")
        yield made


async def test_watchers_are_told_who_is_there_on_all_edges(stack: Stack) -> None:
    """`members` once, at once, with oneself; then who comes and who goes, each once whatever the number of sessions."""
    async with client(stack, "ann", 0) as ann, client(stack, "bob", 1) as bob, client(stack, "bob", 0) as bob_too:
        await bob.subscribe("room")
        began_s = time.monotonic()
        await ann.subscribe("room", presence=True)
        await ann.sees("room", "ann", "bob")
        took_s = time.monotonic() - began_s
        await bob_too.subscribe("room")
        async with client(stack, "carol", 1) as carol:
            await carol.subscribe("room", presence=True)
            await ann.sees("room", "ann", "bob", "carol")
            await carol.sees("room", "ann", "bob", "carol")
        await ann.sees("room", "ann", "bob")
        await bob.say(type="unsubscribe", topic="room")
        await bob_too.say(type="unsubscribe", topic="room")
        await ann.sees("room", "ann")
    kinds = [(frame["type"], frame.get("user")) for frame in ann.told if frame["type"] in {"members", "joined", "left"}]
    assert kinds == [("members", None), ("joined", "carol"), ("left", "carol"), ("left", "bob")]
    print(f"members after {took_s * 1000:.0f} ms")


async def test_an_edge_that_begins_to_hear_the_topic_is_noticed_at_once(stack: Stack) -> None:
    """It cannot know that somebody watches elsewhere."""
    async with client(stack, "ann", 0) as ann, client(stack, "bob", 1) as bob:
        await ann.subscribe("late", presence=True)
        await ann.sees("late", "ann")
        for _ in range(3):
            began_s = time.monotonic()
            await bob.subscribe("late")
            await ann.sees("late", "ann", "bob")
            joined_s = time.monotonic() - began_s
            await bob.say(type="unsubscribe", topic="late")
            await ann.sees("late", "ann")
            print(f"joined after {joined_s * 1000:.0f} ms, left after {(time.monotonic() - began_s - joined_s) * 1000:.0f} ms")


async def test_too_many_end_the_watch_and_not_the_subscription(stack: Stack) -> None:
    """An error says so, when it has grown as well as at once."""
    async with AsyncExitStack() as all_:
        ann = await all_.enter_async_context(client(stack, "ann", 0))
        await ann.subscribe("crowd", presence=True)
        await ann.sees("crowd", "ann")
        for number in range(50):
            one = await all_.enter_async_context(client(stack, f"u{number}", number % 2))
            await one.subscribe("crowd")
        assert (await ann.until("error"))["code"] == "too_many_members"
        await ann.subscribe("crowd", presence=True)
        assert (await ann.until("error"))["code"] == "too_many_members"
        await ann.say(type="ping")
        await ann.until("pong")


async def test_whoever_asks_is_told_who_is_there(stack: Stack) -> None:
    """All edges answer, and one that has nobody is not asked."""
    redis = open_redis(stack.settings)
    async with redis, client(stack, "ann", 0) as ann, client(stack, "ann", 1) as ann_too, client(stack, "bob", 1) as bob:
        for one in (ann, ann_too, bob):
            await one.subscribe("asked")
        members = await members_of(redis, stack.settings, "asked", 10)
        assert members.users == [("ann", 2), ("bob", 1)]
        assert (members.sessions, members.asked, members.answered, members.complete) == (3, 2, 2, True)
        assert (await members_of(redis, stack.settings, "asked", 1)).users == [("ann", 2)]
        nobody = await members_of(redis, stack.settings, "nobody-hears-this", 10)
        assert (nobody.sessions, nobody.asked, nobody.complete) == (0, 0, True)
