"""router.api.topics over real HTTP, a real Redis and a real store."""

from __future__ import annotations

import pytest

from router.shards import shard_of_id
from tests.integration.api_site import Api

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
