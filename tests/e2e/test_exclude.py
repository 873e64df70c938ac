"""Messages for all but one session or device, on real servers: everybody else gets them, live and in a replay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis import Redis

from tests.e2e.clients import client
from tests.stack import Stack

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with two edges."""
    with Stack(tmp_path_factory.mktemp("stack"), settings={"cursor_flush_s": 0.2}) as stack:
        yield stack


@pytest.fixture
def redis(stack: Stack) -> Iterator[Redis]:
    """Yield a producer's connection."""
    with stack.redis_client() as redis:
        yield redis


def send(redis: Redis, to: str, text: str, exclude: str = "", lane: str = "in", **more: str) -> None:
    """Append a message."""
    fields: dict[Any, Any] = {"to": to, "text": text, **more}
    redis.xadd(f"push:{{0}}:{lane}", fields | ({"exclude": exclude} if exclude else {}))


async def test_one_of_a_users_devices(stack: Stack, redis: Redis) -> None:
    """The one on the other edge has it; the one it passes by has what follows, and may acknowledge it."""
    async with client(stack, "alice", 0, "?device=phone") as phone, client(stack, "alice", 1, "?device=pad") as pad:
        send(redis, "user:alice", "1")
        send(redis, "user:alice", "2", "device:alice,phone")
        send(redis, "user:alice", "3", f"session:{pad.session}")
        send(redis, "user:alice", "4", "device:bob,phone")
        await phone.has("user:alice", "1", "3", "4")
        await pad.has("user:alice", "1", "2", "4")
        assert phone.messages[-1]["seq"] == pad.messages[-1]["seq"]
        await phone.say(type="ack", seq=phone.messages[-1]["seq"])
        await phone.say(type="ping")
        await phone.until("pong")
    async with client(stack, "alice", 1, "?device=phone") as phone:
        assert (await phone.until("caught_up"))["seq"] == pad.messages[-1]["seq"]
        assert phone.messages == []


async def test_a_topic_but_for_whom_has_written(stack: Stack, redis: Redis) -> None:
    """Each of a room's sessions excludes itself from what it says: everybody has all that the others said, in order."""
    async with AsyncExitStack() as room:
        clients = [await room.enter_async_context(client(stack, f"member-{n}", n % 2, topics=["room"])) for n in range(6)]
        for one in clients:
            await one.subscribe("room")
        texts = [f"{n}-{said}" for said in range(10) for n in range(6)]
        for text in texts:
            send(redis, "topic:room", text, f"session:{clients[int(text[0])].session}")
        send(redis, "topic:room", "end")
        for n, one in enumerate(clients):
            await one.has("topic:room", *(text for text in texts if not text.startswith(f"{n}-")), "end")


async def test_a_device_that_comes_back(stack: Stack, redis: Redis) -> None:
    """What passes it by is in no replay of it, of its user's messages or a topic's; what passed its last session by is."""
    targets, query = ("user:carol", "topic:later"), "?device=phone&topics=later"
    async with client(stack, "carol", 0, query, topics=["later"]) as phone:
        await phone.until("subscribed")
        for to in targets:
            send(redis, to, "seen")
            await phone.until("message", to=to)
            await phone.say(type="ack", seq=phone.messages[-1]["seq"], to=to)
        since, session = {message["to"]: message["seq"] for message in phone.messages}, phone.session
    for to in targets:
        send(redis, to, "not for the phone", "device:carol,phone")
        send(redis, to, "for both")
        send(redis, to, "not for that session", f"session:{session}")
        send(redis, to, "nor is this", "device:carol,phone")
    async with (
        client(stack, "carol", 1, f"?since={since['user:carol']}", topics=["later"]) as desk,
        client(stack, "carol", 1, query, topics=["later"]) as phone,
    ):
        await desk.say(type="subscribe", topic="later", since=since["topic:later"])
        for to in targets:
            await desk.until("message", to=to, text="nor is this")
            await phone.until("message", to=to, text="not for that session")
        send(redis, "topic:later", "end")
        for one in (desk, phone):
            await one.until("message", text="end")
        for to in targets:
            assert desk.bodies(to)[:4] == ["not for the phone", "for both", "not for that session", "nor is this"]
            assert phone.bodies(to)[:2] == ["for both", "not for that session"]
        assert (len(desk.messages), len(phone.messages)) == (9, 5)


async def test_many_targets(stack: Stack, redis: Redis) -> None:
    """One entry for more users than stand in it inline passes the device by, and nobody else."""
    users = [f"dave-{n}" for n in range(12)]
    async with AsyncExitStack() as all_of_them:
        clients = [await all_of_them.enter_async_context(client(stack, user, 0, "?device=phone")) for user in users]
        send(redis, ",".join(f"user:{user}" for user in users), "1", "device:dave-3,phone")
        send(redis, ",".join(f"user:{user}" for user in users), "2")
        for n, one in enumerate(clients):
            await one.has(f"user:dave-{n}", *(["2"] if n == 3 else ["1", "2"]))


async def test_the_fast_lane(stack: Stack, redis: Redis) -> None:
    """A typing indicator does not come to who types, on either lane for what is transient."""
    async with client(stack, "erin", 0, "?device=phone") as phone, client(stack, "erin", 0, "?device=pad") as pad:
        send(redis, "user:erin", "typing", "device:erin,phone", "fast")
        await pad.has("user:erin", "typing")
        send(redis, "user:erin", "still typing", f"session:{phone.session}", transient="1")
        await pad.has("user:erin", "typing", "still typing")
        send(redis, "user:erin", "said", lane="fast")
        await phone.has("user:erin", "said")
        await pad.has("user:erin", "typing", "still typing", "said")
