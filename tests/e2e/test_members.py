"""Who else has subscribed to a topic, on real servers: asked for, watched, and nothing left behind by any of it."""

from __future__ import annotations

import logging
import random
import resource
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis import Redis
from websockets.asyncio.client import ClientConnection

from router.members import members_of
from router.redis_client import open_redis
from tests.e2e.clients import Client, client_of, until
from tests.stack import Stack
from tests.stopwatch import Stopwatch

log = logging.getLogger(__name__)

pytestmark = pytest.mark.anyio

NODE_TTL_MS = 2_000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with two edges."""
    settings = {"node_ttl_ms": NODE_TTL_MS, "members_max": 50, "events_topics": "told-*"}
    with Stack(tmp_path_factory.mktemp("stack"), settings=settings) as stack:
        yield stack


class Member(Client):
    """A client that keeps what it is told of members, as a client library does."""

    def __init__(self, connection: ClientConnection, welcome: dict[str, Any]) -> None:
        super().__init__(connection, welcome)
        self.views: dict[str, set[str]] = {}
        self.told: list[dict[str, Any]] = []

    async def hear(self) -> dict[str, Any]:
        """Return the next frame, and take in what it tells."""
        frame = await super().hear()
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

    async def sees(self, topic: str, *users: str) -> None:
        """Return when it knows exactly these."""
        while self.views.get(topic) != {*users}:
            await self.hear()


def client(stack: Stack, user: str, edge: int) -> AbstractAsyncContextManager[Member]:
    """Return a client of edge 0 or 1 that may subscribe to anything."""
    return client_of(Member, stack, user, edge, "", topics=["*"])


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
    log.info("members after %.3f s", took_s)


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
            log.info("joined after %.3f s, left after %.3f s", joined_s, time.monotonic() - began_s - joined_s)


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


async def test_the_users_of_a_killed_edge_leave(stack: Stack) -> None:
    """Nobody says so: its heartbeat lapses. Who was on another edge, too, stays."""
    async with client(stack, "ann", 0) as ann:
        await ann.subscribe("doomed", presence=True)
        async with client(stack, "bob", 1) as bob, client(stack, "carol", 1) as carol, client(stack, "carol", 0) as carol_too:
            for one in (bob, carol, carol_too):
                await one.subscribe("doomed")
            await ann.sees("doomed", "ann", "bob", "carol")
            watch = Stopwatch()
            stack["edge-2"].kill()
            try:
                await ann.sees("doomed", "ann", "carol")
                took_s = watch.own_s()
            finally:
                stack["edge-2"].start()
    assert [frame["user"] for frame in ann.told if frame["type"] == "left"] == ["bob"]
    assert took_s < NODE_TTL_MS / 1000 + 5
    log.info("left after %.1f s, node_ttl_ms %d", took_s, NODE_TTL_MS)


async def test_after_a_cut_from_redis_members_are_told_anew(stack: Stack) -> None:
    """All of them, those who came and went meanwhile among them; and then changes again."""
    async with client(stack, "ann", 0) as ann, client(stack, "bob", 1) as bob, client(stack, "carol", 1) as carol:
        await ann.subscribe("cut", presence=True)
        await bob.subscribe("cut")
        await ann.sees("cut", "ann", "bob")
        ann.told.clear()
        with Redis.from_url(stack.settings.redis_url, protocol=2) as redis:
            redis.client_kill_filter(_type="pubsub")
        await bob.say(type="unsubscribe", topic="cut")
        await carol.subscribe("cut")
        await ann.until("members")
        await ann.sees("cut", "ann", "carol")
        await bob.subscribe("cut")
        await ann.sees("cut", "ann", "bob", "carol")


async def test_events_tell_who_comes_and_goes(stack: Stack) -> None:
    """Of the topics that are set; a drained edge says what is left."""
    with Redis.from_url(stack.settings.redis_url, protocol=2, decode_responses=True) as redis:
        events: Any = redis

        def told() -> list[tuple[str, str]]:
            entries = [fields for _, fields in events.xrange("push:{0}:events") if fields.get("topic") == "told-1"]
            return [(fields["event"], fields["user"]) for fields in entries]

        async with client(stack, "ann", 0) as ann, client(stack, "ann", 0) as ann_too, client(stack, "bob", 1) as bob:
            for one in (ann, ann_too, bob):
                await one.subscribe("told-1")
                await one.subscribe("untold-1")
            await until(lambda: len(told()) == 2)
            await anyio.to_thread.run_sync(stack["edge-2"].stop)
            # In this thread: a child ends with the thread that has started it.
            stack["edge-2"].start()
            await until(lambda: len(told()) == 3)
        await until(lambda: len(told()) == 4)
        subscribed, unsubscribed = "subscribed", "unsubscribed"
        assert told() == [(subscribed, "ann"), (subscribed, "bob"), (unsubscribed, "bob"), (unsubscribed, "ann")]
        assert not [fields for _, fields in events.xrange("push:{0}:events") if fields.get("topic") == "untold-1"]


# -- nothing is left ----------------------------------------------------------------------------------------------------

OPERATIONS = 10_000
SESSIONS = 20
TOPICS = 25
GROWTH_MAX_BYTES = 8_000_000
"""What a process may grow by between two churns; a leak of one object an operation would be more."""


async def test_churn_leaves_nothing_behind(stack: Stack) -> None:
    """No channel, no key, no subscription, and no memory: 10,000 operations, twice, with presence and without."""
    await until(lambda: not _remaining(stack))
    keys = _keys(stack)
    await _churn(stack, random.Random(1))  # noqa: S311 - to be had again
    await until(lambda: not _remaining(stack))
    warm = _rss_bytes(stack)
    began_s = time.monotonic()
    await _churn(stack, random.Random(2))  # noqa: S311 - see above
    took_s = time.monotonic() - began_s
    await until(lambda: not _remaining(stack))
    # Who goes is watched for a few seconds (`offline_grace_ms`).
    await until(lambda: _keys(stack) <= keys)
    growth = {name: bytes_ - warm[name] for name, bytes_ in _rss_bytes(stack).items()}
    log.info("%d operations in %.1f s; RSS %s, grown by %s", OPERATIONS, took_s, warm, growth)
    assert all(bytes_ < GROWTH_MAX_BYTES for bytes_ in growth.values())


async def _churn(stack: Stack, choose: random.Random) -> None:
    """Have sessions on both edges subscribe and unsubscribe, leave all topics, and go."""
    async with AsyncExitStack() as all_, anyio.create_task_group() as tasks:
        clients = [await all_.enter_async_context(client(stack, f"u{n}", n % 2)) for n in range(SESSIONS)]
        for one in clients:
            tasks.start_soon(_churn_one, one, random.Random(choose.random()))  # noqa: S311 - see above


async def _churn_one(one: Member, choose: random.Random) -> None:
    for _ in range(OPERATIONS // SESSIONS // 50):
        for _ in range(50):
            topic = f"churn-{choose.randrange(TOPICS)}"
            if choose.random() < 0.5:
                await one.say(type="subscribe", topic=topic, presence=choose.random() < 0.5)
            else:
                await one.say(type="unsubscribe", topic=topic)
        await one.say(type="ping")
        await one.until("pong")
    # Half of them leave their topics, the others their edge.
    for number in range(TOPICS if choose.random() < 0.5 else 0):
        await one.say(type="unsubscribe", topic=f"churn-{number}")
    await one.say(type="ping")
    await one.until("pong")


def _remaining(stack: Stack) -> dict[str, Any]:
    """Return what is still heard or counted of anybody: channels of topics and answers, and the edges' figures."""
    names = ("pushway_subscriptions", "pushway_sessions", "pushway_watched_topics")
    with Redis.from_url(stack.settings.redis_url, protocol=2, decode_responses=True) as redis:
        commands: Any = redis
        channels = [name for name in commands.pubsub_shardchannels() if ":topic:" in name or ":answer:" in name]
    figures = {f"{edge} {name}": stack[edge].metric(name) for edge in ("edge-1", "edge-2") for name in names}
    # One feed stays, that of `all`.
    figures |= {f"{edge} feeds": stack[edge].metric("pushway_feeds") - 1 for edge in ("edge-1", "edge-2")}
    return {name: count for name, count in figures.items() if count} | ({"channels": channels} if channels else {})


def _keys(stack: Stack) -> set[str]:
    """Return all keys but that of the events, which tell of sessions whether or not they subscribe."""
    with Redis.from_url(stack.settings.redis_url, protocol=2, decode_responses=True) as redis:
        commands: Any = redis
        return {*commands.keys("*")} - {"push:{0}:events"}


def _rss_bytes(stack: Stack) -> dict[str, int]:
    """Return the resident memory of the edges."""
    pages = {name: int(Path(f"/proc/{stack[name].pid}/statm").read_text().split()[1]) for name in ("edge-1", "edge-2")}
    return {name: count * resource.getpagesize() for name, count in pages.items()}
