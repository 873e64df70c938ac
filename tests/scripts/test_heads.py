"""heads.lua, and the feeds that live on what it says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

import lua
from edge.feed import Feed, Hearing
from edge.feeds import Feeds
from edge.position import Position
from router.ops import Health
from router.outage import Outages
from router.settings import Settings
from router.targets import ALL
from tests.scripts.shard import Shard
from tests.scripts.test_eras import another_redis
from tests.unit.edge.outlets import KeptOutlet

pytestmark = pytest.mark.anyio

NEWS = "topic:news"


async def hand(shard: Shard, target: str, seq: int | str) -> None:
    """Note a head as collect does."""
    await shard.redis.hset(shard.keys.seq(target), mapping={"given": seq, "handed": seq, "era": shard.era.number})


async def heads(shard: Shard, *targets: str) -> list[Any]:
    """Call the script."""
    keys = [shard.keys.era(), *(shard.keys.seq(target) for target in targets)]
    answer: list[Any] = await shard.redis.register_script(lua.source("heads"))(keys=keys)
    return answer


async def test_heads_of_this_era(shard: Shard) -> None:
    """Nothing of a target without a counter, nor of one that is spoilt; the others' are told all the same."""
    await hand(shard, NEWS, 1732262400123456)
    await hand(shard, ALL, "abc")
    await shard.redis.set(shard.keys.seq("topic:text"), "x")
    era = b"%d" % shard.era.number
    assert await heads(shard, NEWS, "topic:none", ALL, "topic:text") == [era, b"1732262400123456", b"", b"", b""]
    assert await heads(shard) == [era]


async def test_heads_of_another_era_do_not_count(shard: Shard) -> None:
    """Redis may have forgotten the newest of them."""
    await hand(shard, NEWS, 5)
    await shard.redis.hset(shard.keys.seq(NEWS), "era", shard.era.number + 1)
    assert await heads(shard, NEWS) == [b"%d" % shard.era.number, b""]
    await hand(shard, NEWS, 5)
    await another_redis(shard)
    assert await heads(shard, NEWS) == [b"", b""]


class Stage:
    """Feeds on a shard, with an ear in the test's hand."""

    def __init__(self, shard: Shard) -> None:
        self.heard: list[str] = []
        self.audiences: dict[bytes, list[Position]] = {}
        self.behind: list[Position] = []
        self.asked: list[tuple[str, Callable[[int | None], None], int]] = []
        self.told: list[Feed] = []
        self.refused: set[str] = set()
        settings = Settings(route_ttl_ms=1_000, backoff_min_ms=1, backoff_max_ms=2)
        outages = Outages(Health(), settings)
        self.feeds = Feeds(shard.redis, settings, self, self.audiences, self.ask, self.behind.append, outages)

    def hear(self, channel: str) -> None:
        """Note what is to be heard."""
        self.heard.append(channel)

    def drop(self, channel: str) -> None:
        """Note what is not."""
        self.heard.remove(channel)

    async def subscribed(self, shard: int) -> None:
        """Always."""

    def ask(self, target: str, tell: Callable[[int | None], None], above: int) -> None:
        """Keep what MongoDB is asked."""
        self.asked.append((target, tell, above))

    def join(self, target: str, since: int | None = None) -> Hearing:
        """Have a session join a feed that stands."""
        outlet = KeptOutlet()
        self.feeds.hear(target, outlet, self.told.append)
        return self.told[-1].join(outlet, since)

    async def until(self, holds: Callable[[], object]) -> None:
        """Return when it holds."""
        with anyio.fail_after(10):
            while not holds():  # noqa: ASYNC110 - it lies in another task
                await anyio.sleep(0.001)


@pytest.fixture
async def stage(shard: Shard) -> AsyncIterator[Stage]:
    """Yield feeds that run."""
    stage = Stage(shard)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.feeds.run)
        yield stage
        tasks.cancel_scope.cancel()


async def test_a_feed_stands_once_its_channel_is_heard_and_its_head_is_known(shard: Shard, stage: Stage) -> None:
    """And is given up when the last has left; then nothing is left of it."""
    await hand(shard, NEWS, 5)
    outlet = KeptOutlet()
    stage.feeds.hear(NEWS, outlet, stage.told.append)
    assert (stage.heard, stage.told) == ([shard.keys.topic_channel("news")], [])
    stage.feeds.heard(shard.keys.topic_channel("news"))
    await stage.until(lambda: stage.told)
    (feed,) = stage.told
    assert (feed.head, stage.audiences) == (5, {NEWS.encode(): feed.audience})
    mine, other = feed.join(outlet, None), stage.join(NEWS, since=3)
    stage.feeds.leave(mine)
    assert stage.heard
    stage.feeds.leave(other)
    assert (stage.heard, stage.audiences, feed.gone) == ([], {}, True)


async def test_who_waits_and_goes_leaves_nothing(shard: Shard, stage: Stage) -> None:
    """Nobody is told, and the channel is given up; one that is kept is heard without anybody."""
    outlet = KeptOutlet()
    stage.feeds.hear(NEWS, outlet, stage.told.append)
    stage.feeds.withdraw(NEWS, outlet)
    stage.feeds.withdraw(NEWS, outlet)
    stage.feeds.keep(ALL)
    stage.feeds.leave(Hearing(Feed(ALL, 1, stage.behind.append), outlet))
    assert (stage.heard, stage.told) == ([shard.keys.all_channel()], [])


async def test_a_head_that_redis_cannot_tell(stage: Stage) -> None:
    """MongoDB is asked, again and again until it says."""
    stage.feeds.hear(NEWS, KeptOutlet(), stage.told.append)
    stage.feeds.subscribed({0})
    await stage.until(lambda: stage.asked)
    (target, tell, above) = stage.asked.pop()
    assert (target, above) == (NEWS, 0)
    tell(None)
    await stage.until(lambda: stage.asked)
    stage.asked.pop()[1](7)
    assert [feed.head for feed in stage.told] == [7]


async def test_after_a_loss_heads_are_compared(shard: Shard, stage: Stage) -> None:
    """What a feed lacks is to be read, and likewise what somebody lacks who stands elsewhere; who has all is left alone."""
    for target, head in ((NEWS, 5), (ALL, 9)):
        await hand(shard, target, head)
        stage.feeds.keep(target)
    stage.feeds.subscribed({0})
    await stage.until(lambda: all(positions[0].started for positions in stage.audiences.values()))
    stage.join(ALL)
    ahead = stage.join(NEWS, since=6)
    await hand(shard, NEWS, 8)
    stage.feeds.subscribed({0})
    await stage.until(lambda: len(stage.behind) == 2)
    assert stage.behind == [ahead.feed.position, ahead.own]
    assert [position.goal for position in stage.behind] == [8, 8]


async def test_a_channel_that_hears_nothing_is_noticed(shard: Shard, stage: Stage) -> None:
    """Nobody lost anything that Redis would tell: the head of one round is compared in the next."""
    await hand(shard, NEWS, 5)
    stage.feeds.keep(NEWS)
    stage.feeds.subscribed({0})
    await stage.until(lambda: stage.audiences[NEWS.encode()][0].started)
    await hand(shard, NEWS, 8)
    await stage.until(lambda: stage.behind)
    assert [(position.at, position.goal) for position in stage.behind] == [(5, 8)]


async def test_another_era(shard: Shard, stage: Stage) -> None:
    """What was told in the one before may have been too little: all heads are compared at once."""
    await hand(shard, NEWS, 5)
    stage.feeds.keep(NEWS)
    stage.feeds.subscribed({0})
    await stage.until(lambda: stage.audiences[NEWS.encode()][0].started)
    await shard.redis.hset(shard.keys.era(), "era", shard.era.number + 1)
    await stage.until(lambda: stage.asked)
    target, tell, above = stage.asked[0]
    assert (target, above) == (NEWS, 5)
    tell(6)
    assert [(position.at, position.goal) for position in stage.behind] == [(5, 6)]
