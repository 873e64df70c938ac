"""Topics and `all` on real servers: whoever hears of a target gets all of it, live or later, from whichever edge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import cast

import anyio
import pytest
from redis import Redis

from tests.e2e.clients import client, send, until
from tests.stack import Stack

pytestmark = pytest.mark.anyio

CHURN = 500
"""Times that a session subscribes and unsubscribes, in one go."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with two edges."""
    with Stack(tmp_path_factory.mktemp("stack"), settings={"cursor_flush_s": 0.2}) as stack:
        yield stack


@pytest.fixture
def redis(stack: Stack) -> Iterator[Redis]:
    """Yield a client of the stack's Redis."""
    with stack.redis_client() as redis:
        yield redis


def channels(redis: Redis) -> set[str]:
    """Return the topics that some edge hears."""
    found = cast(list[bytes], redis.pubsub_shardchannels("push:{0}:topic:*"))
    return {channel.decode().removeprefix("push:{0}:topic:") for channel in found}


def keys_of(redis: Redis) -> set[bytes]:
    """Return all keys."""
    return set(cast(list[bytes], redis.keys("*")))


async def test_live_on_every_edge(stack: Stack, redis: Redis) -> None:
    """A topic reaches its subscribers and nobody else, `all` reaches everybody; who leaves hears no more of it."""
    async with client(stack, "ann", 0) as ann, client(stack, "bob", 1) as bob, client(stack, "cid", 1) as cid:
        await ann.subscribe("news")
        await bob.subscribe("news")
        send(redis, "topic:news", "a", "b")
        send(redis, "all", "x")
        for one in (ann, bob):
            await one.has("topic:news", "a", "b")
        for one in (ann, bob, cid):
            await one.has("all", "x")
        await bob.say(type="unsubscribe", topic="news")
        await bob.until("unsubscribed")
        send(redis, "topic:news", "c")
        await ann.has("topic:news", "a", "b", "c")
        send(redis, "all", "y")
        await bob.has("all", "x", "y")
        assert (bob.bodies("topic:news"), cid.bodies("topic:news")) == (["a", "b"], [])


async def test_what_was_missed_comes_first(stack: Stack, redis: Redis) -> None:
    """By `since` in the frame or at connecting, of a topic and of all; from then on it is live."""
    async with client(stack, "dan") as dan:
        seq = (await dan.subscribe("news-1"))["seq"]
        send(redis, "topic:news-1", "a", "b", "c")
        send(redis, "all", "dan-x")
        await dan.has("topic:news-1", "a", "b", "c")
        while "dan-x" not in dan.bodies("all"):
            await dan.until("message")
        all_seq = next(one["seq"] for one in dan.messages if one["body"] == "dan-x")
    send(redis, "all", "dan-y")
    query = f"?topics=news-1&since=all:{all_seq},topic:news-1:{seq}"
    async with client(stack, "dan", 1, query) as dan:
        await dan.has("topic:news-1", "a", "b", "c")
        await dan.has("all", "dan-y")
        send(redis, "topic:news-1", "d")
        await dan.has("topic:news-1", "a", "b", "c", "d")
        await dan.say(type="unsubscribe", topic="news-1")
        assert (await dan.subscribe("news-1", since=0))["type"] == "subscribed"
        await dan.has("topic:news-1", "a", "b", "c", "d", "a", "b", "c", "d")


async def test_a_device_goes_on_where_it_stopped(stack: Stack, redis: Redis) -> None:
    """The server keeps a cursor of each target for it; what it has not acknowledged comes again."""
    query = "?device=phone&topics=news-2"
    async with client(stack, "eve", 0, query) as eve:
        await eve.until("subscribed")
        send(redis, "topic:news-2", "a", "b")
        send(redis, "all", "eve-x", "eve-y")
        await eve.has("topic:news-2", "a", "b")
        while len(eve.bodies("all")) < 2:
            await eve.until("message")
        for target, body in (("topic:news-2", "a"), ("all", "eve-x")):
            await eve.say(type="ack", to=target, seq=next(one["seq"] for one in eve.messages if one["body"] == body))
    send(redis, "topic:news-2", "c")
    async with client(stack, "eve", 1, query) as eve:
        await eve.has("topic:news-2", "b", "c")
        await eve.has("all", "eve-y")


async def test_a_lost_subscription_loses_nothing(stack: Stack, redis: Redis) -> None:
    """What was published while an edge did not hear comes as soon as it does, to each session once."""
    async with client(stack, "fay", 0) as fay, client(stack, "gus", 1) as gus:
        for one in (fay, gus):
            await one.subscribe("news-3")
        send(redis, "topic:news-3", "a")
        for one in (fay, gus):
            await one.has("topic:news-3", "a")
        for number in range(5):
            redis.client_kill_filter(_type="pubsub")
            send(redis, "topic:news-3", f"b{number}")
        send(redis, "topic:news-3", "c")
        for one in (fay, gus):
            await one.has("topic:news-3", "a", "b0", "b1", "b2", "b3", "b4", "c")


async def test_more_at_once_than_a_client_takes(stack: Stack, redis: Redis) -> None:
    """Ends nobody: who reads has all of it while another does not, and that one has all of it when it does."""
    bodies = [f"{number}".ljust(20_000, ".") for number in range(500)]
    async with client(stack, "kim") as kim, client(stack, "lou") as lou:
        for one in (kim, lou):
            await one.subscribe("news-4")
        with redis.pipeline(transaction=False) as pipe:
            for body in bodies:
                pipe.xadd("push:{0}:in", {"to": "topic:news-4", "body": json.dumps(body)})
            await anyio.to_thread.run_sync(pipe.execute)
        for one in (kim, lou):
            await one.has("topic:news-4", *bodies)


async def test_a_topic_that_is_not_granted(stack: Stack) -> None:
    """The client is told, and everything else goes on."""
    async with client(stack, "hal") as hal:
        await hal.say(type="subscribe", topic="secret")
        assert (await hal.until("error"))["code"] == "forbidden"
        assert (await hal.subscribe("news"))["topic"] == "news"


async def test_churn_leaves_nothing_behind(stack: Stack, redis: Redis) -> None:
    """However often sessions come and go, in the end no channel is left, and no key was ever made."""
    keys = keys_of(redis)
    async with client(stack, "ida", 0) as ida, client(stack, "jim", 1) as jim:
        for number in range(CHURN):
            for one in (ida, jim):
                await one.say(type="subscribe", topic=f"news-{number % 7}-churn")
                await one.say(type="unsubscribe", topic=f"news-{number % 7}-churn")
        for one in (ida, jim):
            await one.subscribe("news-last")
        assert channels(redis) == {"news-last"}
    await until(lambda: not channels(redis))
    assert not [key for key in keys_of(redis) - keys if b"churn" in key or b"last" in key]
