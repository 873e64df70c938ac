"""Subscriptions that do not come from the client, on real servers: back ends keep them, and tokens name them."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import httpx
import pytest
from redis import Redis

from edge.client import Client as ClientLibrary
from edge.client import MemoryCursors, Pauses, Status, Subscribed, Unsubscribed
from tests.e2e.clients import Client, client, send, until
from tests.stack import API_KEY, Stack

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with two edges."""
    settings = {"cursor_flush_s": 0.1, "mongo_timeout_s": 1.0, "backoff_max_ms": 200}
    with Stack(tmp_path_factory.mktemp("stack"), settings=settings) as stack:
        yield stack


@pytest.fixture
def redis(stack: Stack) -> Iterator[Redis]:
    """Yield a client of the stack's Redis."""
    with stack.redis_client() as redis:
        yield redis


async def change(stack: Stack, method: str, user: str, topic: str) -> httpx.Response:
    """Subscribe a user to a topic, or end it, as a back end does."""
    address = f"http://127.0.0.1:{stack.settings.api_port}/v1/users/{user}/topics/{topic}"
    async with httpx.AsyncClient(trust_env=False, headers={"authorization": f"Bearer {API_KEY}"}) as http:
        return (await http.request(method, address)).raise_for_status()


async def subscribed(one: Client, *topics: str) -> None:
    """Return when a client is told that it hears these topics, and no others; each is told as soon as it is heard."""
    assert {(await one.until("subscribed"))["topic"] for _ in topics} == {*topics}


async def test_what_a_back_end_says_holds_for_all_sessions(stack: Stack, redis: Redis) -> None:
    """Those that stand, on whichever edge, and those to come, whatever the token grants; until it is ended, whoever asked."""
    async with client(stack, "ann", 0) as one, client(stack, "ann", 1) as other, client(stack, "bob", 1) as bob:
        await one.subscribe("news-1")
        for topic in ("room", "room", "news-1"):
            await change(stack, "PUT", "ann", topic)
        await subscribed(one, "room")
        await subscribed(other, "room", "news-1")
        async with client(stack, "ann", 1, "?topics=news-2") as late:
            await subscribed(late, "news-2", "room", "news-1")
            send(redis, "topic:room", "a")
            for session in (one, other, late):
                await session.has("topic:room", "a")
            await change(stack, "DELETE", "ann", "room")
            await change(stack, "DELETE", "ann", "news-1")
            await change(stack, "DELETE", "ann", "news-2")
            for session, ended in ((one, 2), (other, 2), (late, 3)):
                topics = [(await session.until("unsubscribed"))["topic"] for _ in range(ended)]
                assert topics == ["room", "news-1", "news-2"][:ended]
        send(redis, "topic:room", "b")
        send(redis, "all", "x")
        for session in (one, other, bob):
            await session.has("all", "x")
        assert [session.bodies("topic:room") for session in (one, other, bob)] == [["a"], ["a"], []]
        await one.say(type="subscribe", topic="room")
        assert (await one.until("error"))["code"] == "forbidden"


async def test_who_leaves_is_not_subscribed_again_in_that_session(stack: Stack, redis: Redis) -> None:
    """A repeated word of the back end changes nothing; the next session hears the topic."""
    await change(stack, "PUT", "dan", "room")
    async with client(stack, "dan") as dan:
        await subscribed(dan, "room")
        await dan.say(type="unsubscribe", topic="room")
        await dan.until("unsubscribed")
        await change(stack, "PUT", "dan", "room")
        await change(stack, "PUT", "dan", "other")
        await subscribed(dan, "other")
        send(redis, "topic:room", "a")
        send(redis, "topic:other", "b")
        await dan.has("topic:other", "b")
        assert dan.bodies("topic:room") == []
    async with client(stack, "dan") as dan:
        await subscribed(dan, "room", "other")


async def test_what_a_token_names(stack: Stack, redis: Redis) -> None:
    """Is heard behind what the client asks for, on each edge, and nothing more is granted by it."""
    for edge in (0, 1):
        async with client(stack, "eve", edge, "?topics=news", subscribe=["room"]) as eve:
            await subscribed(eve, "news", "room")
            send(redis, "topic:room", f"from {edge}")
            await eve.has("topic:room", f"from {edge}")
            await eve.say(type="subscribe", topic="other")
            assert (await eve.until("error"))["code"] == "forbidden"


@pytest.mark.parametrize("device", [None, "phone"])
async def test_nothing_is_missed_when_an_edge_is_killed(stack: Stack, redis: Redis, device: str | None) -> None:
    """The next session, on the other edge, hears the topic unasked, and begins where the client, or its device, has come to."""
    user = f"fay-{device}"
    told: list[Status] = []
    got: list[object] = []

    async def bearer() -> str:
        return await anyio.to_thread.run_sync(lambda: stack.token(user))

    cursors, pauses = MemoryCursors(), Pauses(min_s=0.3, max_s=0.6)
    urls = [stack.edge_urls[0], stack.edge_urls[1]]
    async with ClientLibrary(urls, bearer, device=device, cursors=cursors, on_status=told.append, pauses=pauses) as fay:

        async def listen() -> None:
            async for message in fay:
                got.append(message.body)  # noqa: PERF401 - looked at before it is over

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await until(lambda: told)
            await change(stack, "PUT", user, "room")
            await until(lambda: any(isinstance(status, Subscribed) for status in told))
            send(redis, "topic:room", "a")
            await until(lambda: got == ["a"])
            stack["edge-1"].kill()
            send(redis, "topic:room", "b", "c")
            await until(lambda: len(got) == 3)
            await until(lambda: sum(isinstance(status, Subscribed) for status in told) == 2)
            send(redis, "topic:room", "d")
            await until(lambda: len(got) == 4)
            await change(stack, "DELETE", user, "room")
            await until(lambda: any(isinstance(status, Unsubscribed) for status in told))
            tasks.cancel_scope.cancel()
    stack["edge-1"].start()
    assert got == ["a", "b", "c", "d"]


async def test_welcome_does_not_wait_for_mongodb(stack: Stack, redis: Redis) -> None:
    """While it is away a session begins at once and hears what it asks for; what stands follows when it is back."""
    await change(stack, "PUT", "gil", "room")
    async with client(stack, "gil") as gil:
        await subscribed(gil, "room")
    # What Redis knows the head of takes no look into MongoDB, at connecting or subscribing.
    send(redis, "user:gil", "x")
    send(redis, "topic:news", "x")
    await until(lambda: redis.hget("push:{0}:seq:user:gil", "handed") and redis.hget("push:{0}:seq:topic:news", "handed"))
    stack.store.kill()
    try:
        with anyio.fail_after(60):
            async with client(stack, "gil", 1) as gil:
                await gil.subscribe("news")
                await gil.say(type="ping")
                await gil.until("pong")
                stack.store.start()
                await subscribed(gil, "room")
    finally:
        if stack.store.ended:
            stack.store.start()
