"""edge.watching: the lines of one node, out and in; what is lost on the way out is told whole."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, cast

import anyio
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from edge.feed import Feed
from edge.watching import Watching
from router.metrics import WATCHED_TOPICS
from router.ops import Health
from router.outage import Outages
from router.settings import Settings
from tests.unit.edge.outlets import KeptOutlet

pytestmark = pytest.mark.anyio

SETTINGS = Settings(node_ttl_ms=600, members_max=10)


class Wire:
    """A Redis whose every publication is kept, and heard by as many as the test says."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []
        self.hearers = 1
        self.away = False
        self.nodes: dict[str, int] = {}

    def pipeline(self, *, transaction: bool) -> Pipe:
        """Return a pipeline."""
        assert not transaction
        return Pipe(self)

    def of(self, word: str) -> list[dict[str, Any]]:
        """Return what was said with a word."""
        return [said for _, told, said in self.lines if told == word]


class Pipe:
    """Commands that are sent together."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.replies: list[Any] = []

    async def __aenter__(self) -> Pipe:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def spublish(self, channel: str, line: bytes) -> None:
        """Keep a line, unless Redis is away."""
        word, _, _, _, said = line.split(b" ", 4)
        if not self.wire.away:
            self.wire.lines.append((channel, word.decode(), json.loads(said)))
        self.replies.append(self.wire.hearers)

    def time(self) -> None:
        """Tell the time."""
        now_us = time.time_ns() // 1_000
        self.replies.append((now_us // 1_000_000, now_us % 1_000_000))

    def zrange(self, key: str, first: int, last: int, *, withscores: bool) -> None:
        """Tell the heartbeats."""
        assert (key, first, last, withscores) == ("push:{0}:nodes", 0, -1, True)
        self.replies.append(
            [(node.encode(errors="surrogateescape"), expires_ms) for node, expires_ms in self.wire.nodes.items()]
        )

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Return what the commands said."""
        del raise_on_error
        if self.wire.away:
            raise RedisConnectionError("away")
        return self.replies


class Client(KeptOutlet):
    """A session of a user."""

    def __init__(self, user: str) -> None:
        super().__init__()
        self.user = user

    @property
    def told(self) -> list[dict[str, Any]]:
        """The frames that were written, decoded."""
        found, decoder = [], json.JSONDecoder()
        for text in (write.decode(errors="ignore") for write in self.frames):
            place = text.find("{")
            while place >= 0:
                frame, end = decoder.raw_decode(text, place)
                found.append(frame)
                place = text.find("{", end)
        return found


class Node:
    """One edge, and the topic `t`."""

    def __init__(self) -> None:
        self.wire = Wire()
        redis: Any = self.wire
        self.watching = Watching(redis, SETTINGS, "me", self.users_of, Outages(Health(), SETTINGS))
        self.feed = Feed("topic:t", 1_000, lambda _: None, self.watching)
        self.feed.start(0)

    def users_of(self, topic: str) -> set[str]:
        """Return who is here."""
        assert topic == "t"
        return {cast("Client", outlet).user for outlet in self.feed.outlets}

    def come(self, user: str) -> Client:
        """Have a session subscribe and watch."""
        client = Client(user)
        self.feed.join(client, None)
        self.watching.watch("t", client)
        return client

    def hear(self, **line: object) -> None:
        """Have a line `members` come."""
        self.watching.hear_members(json.dumps({"topic": "t", **line}).encode())


@pytest.fixture
def node() -> Iterator[Node]:
    """Yield a node; its gauge is the process' own."""
    yield Node()
    WATCHED_TOPICS.set_function(lambda: 0)


async def until(holds: Any) -> None:  # noqa: ANN401 - any condition
    """Return when it holds."""
    with anyio.fail_after(20):
        while not holds():  # noqa: ASYNC110 - nothing tells
            await anyio.sleep(0.005)


async def test_watchers_are_told_what_the_lines_say(node: Node) -> None:
    """On the topic's channel goes out who is here and that somebody watches; what comes in goes to the client."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(node.watching.run)
        ann = node.come("ann")
        await until(lambda: node.wire.of("watched"))
        assert {channel for channel, _, _ in node.wire.lines} == {"push:{0}:topic:t"}
        assert node.wire.of("watched") == [{"topic": "t", "node": "me"}]
        node.hear(node="me", users=["ann"])
        await until(lambda: ann.told)
        node.hear(node="other", users=["bob"])
        node.hear(node="other", left=["bob"])
        assert [frame["type"] for frame in ann.told] == ["members", "joined", "left"]
        tasks.cancel_scope.cancel()


async def test_who_leaves_watches_no_more(node: Node) -> None:
    """And the lines of others are not even read."""
    ann = node.come("ann")
    (hearing,) = [node.feed.join(Client("bob"), None)]
    node.feed.leave(hearing)
    assert node.watching._watches.topics == {"t"}
    node.watching.went(node.feed, ann)
    assert not node.watching._watches.topics
    node.watching.hear_members(b"no JSON at all")


async def test_a_line_that_is_none_is_refused(node: Node) -> None:
    """By whoever hands it on, which logs it."""
    node.come("ann")
    for hear in (node.watching.hear_members, node.watching.hear_watched):
        with pytest.raises(ValueError, match="JSON"):
            hear(b"no JSON at all")


async def test_what_redis_did_not_take_is_told_whole(node: Node) -> None:
    """As soon as it is back."""
    async with anyio.create_task_group() as tasks:
        node.watching.hear_watched(b'{"topic":"t","node":"other"}')
        node.wire.away = True
        tasks.start_soon(node.watching.run)
        node.come("ann")
        await anyio.sleep(0.3)  # longer than changes are gathered for: what must not be told would be told by then
        assert not node.wire.lines
        node.wire.away = False
        await until(lambda: {word for _, word, _ in node.wire.lines} == {"members", "watched"})
        assert node.wire.of("members")[0]["users"] == ["ann"]
        tasks.cancel_scope.cancel()


async def test_the_users_of_a_dead_node_leave(node: Node) -> None:
    """Once its heartbeat has lapsed by Redis' clock; those of the others stay."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(node.watching.run)
        ann = node.come("ann")
        now_ms = time.time_ns() // 1_000_000
        node.wire.nodes = {"me": now_ms + 60_000, "other": now_ms + 60_000, "dead": now_ms + 600}
        # Somebody has put it there by hand: it keeps nobody from being looked at.
        node.wire.nodes["\udcff"] = now_ms
        for name, user in (("me", "ann"), ("other", "bob"), ("dead", "carol")):
            node.hear(node=name, users=[user])
        await until(lambda: any(frame["type"] == "left" for frame in ann.told))
        assert time.time() * 1000 - now_ms >= 600
        assert [frame.get("users", frame.get("user")) for frame in ann.told] == [["ann", "bob", "carol"], "carol"]
        tasks.cancel_scope.cancel()


async def test_a_node_that_stops_tells_what_is_left(node: Node) -> None:
    """And does not wait for a Redis that is away."""
    node.watching.hear_watched(b'{"topic":"t","node":"other"}')
    hearing = node.feed.join(Client("ann"), None)
    await node.watching.flush()
    node.feed.leave(hearing)
    await node.watching.flush()
    assert [said["users"] for said in node.wire.of("members")] == [["ann"], []]
    node.wire.away = True
    node.feed.join(Client("bob"), None)
    await node.watching.flush()
