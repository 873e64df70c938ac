"""edge.feeds: a feed starts at a head that is told when its channel is heard, and ends with the last who hears it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from edge.feed import Feed
from edge.feeds import BATCH_MAX, Feeds
from edge.position import Position, Verdict
from router.metrics import FEEDS, SUBSCRIPTIONS
from router.ops import Health
from router.outage import Outages
from router.settings import Settings
from tests.unit.edge.outlets import KeptOutlet

pytestmark = pytest.mark.anyio

NEWS = "topic:news"
CHANNEL = "push:{0}:topic:news"
SETTINGS = Settings(route_ttl_ms=3_000, backoff_min_ms=1, backoff_max_ms=1)
HASTY = SETTINGS.model_copy(update={"route_ttl_ms": 15})
"""Rounds follow upon each other."""


async def until(holds: Callable[[], object]) -> None:
    """Return when a condition holds."""
    with anyio.fail_after(60):
        while not holds():  # noqa: ASYNC110 - it has no event
            await anyio.sleep(0.001)


class FakeEar:
    """Subscribed at once; keeps the channels."""

    def __init__(self) -> None:
        self.channels: list[str] = []
        self.refused: set[str] = set()

    def hear(self, channel: str) -> None:
        """Keep it."""
        self.channels.append(channel)

    def drop(self, channel: str) -> None:
        """Forget it."""
        self.channels.remove(channel)

    async def subscribed(self, shard: int) -> None:
        """Be it."""
        del shard
        await anyio.lowlevel.checkpoint()


class FakeHeads:
    """Redis and its script: seq keys → heads; and MongoDB, which answers when the test says so."""

    def __init__(self) -> None:
        self.heads: dict[str, bytes] = {}
        self.era = b"1"
        self.calls = 0
        self.failures = 0
        self.asked: list[tuple[str, Callable[[int | None], None], int]] = []

    def register_script(self, source: str) -> Callable[..., Any]:
        """Return what plays the script."""
        del source
        return self._script

    async def _script(self, keys: list[str]) -> list[bytes]:
        self.calls += 1
        await anyio.lowlevel.checkpoint()
        if self.failures:
            self.failures -= 1
            raise RedisConnectionError
        return [self.era, *(self.heads.get(key, b"") for key in keys[1:])]

    def ask(self, target: str, tell: Callable[[int | None], None], above: int) -> None:
        """Keep the question."""
        self.asked.append((target, tell, above))


class Node:
    """Feeds, and all that they touch."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.redis = FakeHeads()
        self.ear = FakeEar()
        self.audiences: dict[bytes, list[Position]] = {}
        self.behind: list[Position] = []
        self.joined: list[Feed] = []
        redis: Any = self.redis
        outages = Outages(Health(), settings)
        self.feeds = Feeds(redis, settings, self.ear, self.audiences, self.redis.ask, self.behind.append, outages)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Have heads asked within the block."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.feeds.run)
            yield
            tasks.cancel_scope.cancel()

    def hear(self, outlet: KeptOutlet) -> None:
        """Ask for the topic."""
        self.feeds.hear(NEWS, outlet, self.joined.append)

    async def calls(self, count: int) -> None:
        """Return when Redis has been asked so many times more."""
        before = self.redis.calls
        await until(lambda: self.redis.calls >= before + count)


def figures() -> dict[str, float]:
    """Return what the last made node shows."""
    return {sample.name: sample.value for gauge in (FEEDS, SUBSCRIPTIONS) for one in gauge.collect() for sample in one.samples}


async def test_it_starts_at_the_head_and_ends_with_the_last() -> None:
    """Two hear it on one channel; when both have left, nothing is left."""
    node, ann, bob = Node(), KeptOutlet(), KeptOutlet()
    node.redis.heads["push:{0}:seq:topic:news"] = b"7"
    async with node.running():
        node.feeds.keep("all")
        node.hear(ann)
        node.hear(bob)
        assert node.ear.channels == ["push:{0}:all", CHANNEL]
        assert figures() == {"pushway_feeds": 2.0, "pushway_subscriptions": 2.0}
        node.feeds.heard(CHANNEL)
        await until(lambda: len(node.joined) == 2)
        feed = node.joined[0]
        hearings = [feed.join(outlet, None) for outlet in (ann, bob)]
        assert [hearing.at for hearing in hearings] == [7, 7]
        for hearing in hearings:
            assert node.audiences
            node.feeds.leave(hearing)
    assert (node.ear.channels, [*node.audiences], feed.gone) == (["push:{0}:all"], [b"all"], True)
    assert figures() == {"pushway_feeds": 1.0, "pushway_subscriptions": 0.0}


async def test_a_round_starts_no_feed() -> None:
    """One whose channel is not heard yet, or whose head MongoDB is asked for, begins at none that is older."""
    node = Node(HASTY)
    node.feeds.keep("all")
    async with node.running():
        node.feeds.subscribed({0})
        await until(lambda: node.redis.asked)
        node.redis.asked.pop()[1](3)
        node.hear(KeptOutlet())
        node.redis.heads["push:{0}:seq:topic:news"] = b"7"
        await node.calls(5)
        assert node.joined == []
        node.feeds.heard(CHANNEL)
        await until(lambda: node.joined)
    assert node.joined[0].head == 7


async def test_mongodb_is_asked_until_it_tells() -> None:
    """What Redis cannot tell; a MongoDB that is away is asked again."""
    node = Node()
    async with node.running():
        node.hear(KeptOutlet())
        node.feeds.heard(CHANNEL)
        for answer in (None, None, 5):
            await until(lambda: node.redis.asked)
            target, tell, above = node.redis.asked.pop()
            assert (target, above) == (NEWS, 0)
            assert node.joined == []
            tell(answer)
        assert node.joined[0].head == 5


async def test_redis_away() -> None:
    """The question stands until it answers."""
    node = Node()
    node.redis.heads["push:{0}:seq:topic:news"] = b"7"
    node.redis.failures = 3
    async with node.running():
        node.hear(KeptOutlet())
        node.feeds.heard(CHANNEL)
        await until(lambda: node.joined)
    assert node.redis.calls == 4


async def test_who_withdraws_before_the_head_is_told() -> None:
    """Is not told; a feed that nobody waits for is gone, whatever is answered for it later."""
    node, ann = Node(), KeptOutlet()
    async with node.running():
        node.hear(ann)
        node.feeds.heard(CHANNEL)
        await until(lambda: node.redis.asked)
        node.feeds.withdraw(NEWS, ann)
        node.hear(ann)
        node.redis.asked.pop()[1](5)
        assert (node.joined, node.ear.channels) == ([], [CHANNEL])
        node.feeds.withdraw(NEWS, ann)
    assert (node.ear.channels, node.audiences) == ([], {})


async def test_what_was_missed_is_read_after_a_loss() -> None:
    """And in a round when the head of the round before is above where the feed stands."""
    node = Node(HASTY)
    node.redis.heads["push:{0}:seq:topic:news"] = b"7"
    async with node.running():
        node.hear(KeptOutlet())
        node.feeds.heard(CHANNEL)
        await until(lambda: node.joined)
        assert node.behind == []
        node.redis.heads["push:{0}:seq:topic:news"] = b"8"
        await until(lambda: node.behind)
    assert [position.goal for position in node.behind] == [8]


async def test_what_comes_before_the_head_and_shows_a_gap_is_read() -> None:
    """Nobody else would ever have the feed go on."""
    for expired in (False, True):
        node = Node()
        node.redis.heads["push:{0}:seq:topic:news"] = b"7"
        async with node.running():
            node.hear(KeptOutlet())
            (position,) = node.audiences[NEWS.encode()]
            assert position.pass_over(8, 9) is False if expired else position.take(8, 9, b"x") is Verdict.HELD
            node.feeds.heard(CHANNEL)
            await until(node.joined.__len__)
        assert [(behind.at, behind.goal) for behind in node.behind] == [(7, 9)]


async def test_another_era_has_all_heads_compared() -> None:
    """Those told in the one before may have been short of what is stored; many are asked in a few calls."""
    node = Node(HASTY)
    outlet = KeptOutlet()
    for number in range(2 * BATCH_MAX):
        node.feeds.hear(f"topic:{number}", outlet, node.joined.append)
        node.redis.heads[f"push:{{0}}:seq:topic:{number}"] = b"7"
    async with node.running():
        node.feeds.subscribed({0})
        await until(lambda: len(node.joined) == 2 * BATCH_MAX)
        assert node.redis.calls == 2
        node.redis.era = b"2"
        node.redis.heads.clear()
        await until(lambda: len(node.redis.asked) >= 2 * BATCH_MAX)
    assert {above for _, _, above in node.redis.asked} == {7}
