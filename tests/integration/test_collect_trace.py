"""Collect's trace events, over a real Redis and a real store."""

from __future__ import annotations

import time

import pytest

from router.trace import read_events
from tests.integration.site import Site

pytestmark = pytest.mark.anyio


async def test_appended_and_stored(site: Site) -> None:
    """In order, by the lease's owner, with the seq; the document and the line say that the message is traced."""
    before_us = time.time_ns() // 1_000
    await site.append(to="user:a", text="hi", id="m", trace="1")
    await site.append(to="user:a", text="hi", id="untraced")
    await site.settle()
    appended, stored = await read_events(site.redis, site.settings, "m")
    document = await site.documents.find_one({"id": "m"})
    assert document is not None
    assert (appended.stage, appended.to, stored.stage, stored.seq) == ("appended", "user:a", "stored", document["seq"])
    assert stored.by.startswith("owner-")
    assert before_us - 1_000 <= appended.at_us <= stored.at_us <= time.time_ns() // 1_000
    assert document["trace"] is True
    assert [line.split(" ")[3] for line in await site.lines()] == ["trace=1", "-"]
    assert await read_events(site.redis, site.settings, "untraced") == []
    assert "trace" not in (await site.documents.find_one({"id": "untraced"}) or {})


async def test_repeated_and_dead(site: Site) -> None:
    """A repeated id tells of the seq that it was stored with; a dead letter of its reason."""
    await site.append(to="user:a", text="hi", id="m")
    await site.settle()
    await site.append(to="user:a", text="hi", id="m", trace="1")
    await site.append(to="user:a", id="m", trace="1")
    await site.settle()
    document = await site.documents.find_one({"id": "m"})
    assert document is not None
    told = [(event.stage, event.seq) for event in await read_events(site.redis, site.settings, "m")]
    assert sorted(told, key=str) == [("appended", None), ("appended", None), ("dead", None), ("repeated", document["seq"])]
    assert ["trace=1" in line.split(" ")[3] for line in await site.lines()] == [False, True]


async def test_two_shards(two_shards: Site) -> None:
    """Each target's stages are told in its own shard, also where the message was appended to another."""
    await two_shards.append(to="user:a,user:b,user:c,user:d", text="hi", id="m", trace="1")
    await two_shards.settle()
    events = await read_events(two_shards.redis, two_shards.settings, "m")
    assert {event.to: [one.stage for one in events if one.to == event.to] for event in events} == {
        f"user:{user}": ["appended", "stored"] for user in "abcd"
    }
    assert all([await two_shards.redis.xlen(two_shards.keys(shard).trace()) for shard in (0, 1)])


async def test_broken_trace_stream_stops_nothing(site: Site) -> None:
    """Messages go on when the events cannot be written."""
    await site.redis.set(site.keys(0).trace(), "not a stream")
    await site.append(to="user:a", text="hi", id="m", trace="1")
    await site.append(to="user:a", text="hi", id="t", trace="1", transient="1")
    await site.settle()
    await site.is_kept()
    assert len(await site.lines()) == 2
