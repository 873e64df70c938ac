"""router.api.topics over real HTTP, a real Redis and a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import msgspec
import pytest

from router.api import topics
from router.members import Answer, Asked
from router.shards import shard_of_id
from tests.integration.api_site import Api, serving
from tests.integration.site import Site

pytestmark = pytest.mark.anyio


async def test_topic_whom_nobody_knows(api: Api) -> None:
    """Any name is answered: nobody registers topics."""
    assert await api.get("/v1/topics/nothing") == {"topic": "nothing", "head": 0, "edges": 0}


async def test_head_and_edges_of_a_topic(api_of_two: Api) -> None:
    """In the topic's own shard; whoever subscribes to its channel is an edge."""
    api, topic = api_of_two, "a/ü:1"
    await api.site.append(to=f"topic:{topic}", text="hi")
    await api.site.settle()
    (document,) = await api.site.stored()
    channel = api.site.keys(shard_of_id(topic, 2)).topic_channel(topic)
    async with api.site.redis.pubsub() as one, api.site.redis.pubsub() as other:
        for pubsub in (one, other):
            await pubsub.ssubscribe(channel)
            assert await pubsub.get_message(timeout=60)
        found = await api.get("/v1/topics/a%2F%C3%BC%3A1")
    assert found == {"topic": topic, "head": document["seq"], "edges": 2}


async def test_name_against_the_rules(api: Api) -> None:
    """400 names the field."""
    assert (await api.refused("/v1/topics/a%20b"))["field"] == "topic"


@asynccontextmanager
async def _answering(api: Api, topic: str, *answers: Answer) -> AsyncIterator[None]:
    """Hear a topic as an edge for each of these, and answer."""
    channel = api.site.keys(shard_of_id(topic, api.site.settings.shards)).topic_channel(topic)

    async def answer(one: Answer) -> None:
        async with api.site.redis.pubsub() as pubsub:
            await pubsub.ssubscribe(channel)
            async for message in pubsub.listen():
                if message["type"] == "smessage":
                    asked = msgspec.json.decode(message["data"].split(b" ", 4)[4], type=Asked)
                    await api.site.redis.spublish(asked.to, msgspec.json.encode(one))

    async with anyio.create_task_group() as tasks:
        for one in answers:
            tasks.start_soon(answer, one)
        with anyio.fail_after(60):
            while (await api.get(f"/v1/topics/{topic}"))["edges"] < len(answers):
                await anyio.lowlevel.checkpoint()
        yield
        tasks.cancel_scope.cancel()


async def test_topic_without_members(api: Api) -> None:
    """Nobody is asked, and nobody there."""
    assert await api.get("/v1/topics/a/members") == {
        "topic": "a", "users": [], "users_total": 0, "sessions": 0, "edges": 0, "complete": True,
    }  # fmt: skip


async def test_members_of_every_edge(api_of_two: Api) -> None:
    """Counted over the edges; as many named as were asked for."""
    answers = (Answer("edge-1.a", 3, {"ann": 2, "bob": 1}), Answer("edge-2.b", 1, {"ann": 1}))
    async with _answering(api_of_two, "b", *answers):
        found = await api_of_two.get("/v1/topics/b/members")
        assert found == {
            "topic": "b", "users": [{"user": "ann", "sessions": 3}, {"user": "bob", "sessions": 1}],
            "users_total": 2, "sessions": 4, "edges": 2, "complete": True,
        }  # fmt: skip
        few = await api_of_two.get("/v1/topics/b/members", limit=1)
        assert ([one["user"] for one in few["users"]], few["users_total"]) == (["ann"], 2)


async def test_an_edge_that_does_not_answer(api: Api) -> None:
    """It is told that something is missing, once the time is over."""
    async with api.site.redis.pubsub() as pubsub:
        await pubsub.ssubscribe(api.site.keys(0).topic_channel("a"))
        assert await pubsub.get_message(timeout=60)
        found = await api.get("/v1/topics/a/members")
    assert (found["edges"], found["complete"]) == (1, False)


async def test_too_many_who_ask_are_refused(site: Site) -> None:
    """503 at once, with when to come again."""
    site.settings = site.settings.model_copy(update={"members_timeout_ms": 100})
    statuses: list[int] = []

    async def ask(api: Api) -> None:
        statuses.append((await api.client.get("/v1/topics/a/members")).status_code)

    async with serving(site) as api, site.redis.pubsub() as pubsub:
        await pubsub.ssubscribe(site.keys(0).topic_channel("a"))
        assert await pubsub.get_message(timeout=60)
        async with anyio.create_task_group() as tasks:
            for _ in range(topics.ASKING_MAX + 10):
                tasks.start_soon(ask, api)
    assert set(statuses) == {200, 503}


@pytest.mark.parametrize("limit", [0, 10_001, "x"])
async def test_limits_against_the_rules(api: Api, limit: object) -> None:
    """400 names it."""
    assert (await api.refused("/v1/topics/a/members", limit=limit))["field"] == "limit"
