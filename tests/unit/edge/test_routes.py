"""edge.routes: what is told of a route that stands, lapses, or cannot be written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from fakeredis import FakeAsyncRedis
from redis.exceptions import ConnectionError as RedisConnectionError

from edge.routes import Routes
from router.keys import Keys
from router.ops import Health
from router.outage import Outages
from router.settings import Settings

pytestmark = pytest.mark.anyio

QUICK = Settings(route_ttl_ms=1_000, backoff_min_ms=1, backoff_max_ms=2)
KEYS = Keys(QUICK.prefix, 0)
PROMPT_S = 10.0


class LossyRedis(FakeAsyncRedis):
    """Runs every command, and loses as many of the next answers to a script as it is told."""

    lost = 0

    async def evalsha(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the driver's signature
        """Run a script."""
        answer = await super().evalsha(*args, **kwargs)
        if self.lost:
            self.lost -= 1
            raise RedisConnectionError
        return answer


class Site:
    """A Redis, the routes of a node that holds alice, and whose heads were compared."""

    def __init__(self) -> None:
        self.redis = LossyRedis()
        self.compared: list[tuple[str, int | None]] = []
        self.told = anyio.Event()
        self.routes = Routes(
            self.redis, QUICK, "edge-1.aaaaaa", {"alice"}, self.devices, self.subscribed, self.resync, Outages(Health(), QUICK)
        )

    async def begin_era(self, number: int) -> None:
        """Begin an era, as collect does; fakeredis has no replication id."""
        await self.redis.hset(KEYS.era(), mapping={"server": "-", "era": str(number)})

    def devices(self, user: str) -> list[str]:
        """Alice is here with two."""
        return {"alice": ["phone", "tablet"]}[user]

    async def subscribed(self, shard: int) -> None:
        """Return at once."""

    def resync(self, user: str, head: int | None) -> None:
        """Note it."""
        self.compared.append((user, head))
        self.told.set()

    async def compares(self) -> tuple[str, int | None]:
        """Return the next user whose heads are compared, and the head."""
        with anyio.fail_after(PROMPT_S):
            while not self.compared:
                self.told = anyio.Event()
                await self.told.wait()
        return self.compared.pop(0)


@asynccontextmanager
async def routed() -> AsyncIterator[Site]:
    """Yield a site whose user is routed."""
    site = Site()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(site.routes.run)
        site.routes.write("alice")
        await site.routes.settled()
        yield site
        tasks.cancel_scope.cancel()


async def test_a_lapse_is_noticed_although_the_answer_that_told_of_it_is_lost() -> None:
    """The call has run: the route stands when it is made again, and what was sent while it did not stand is missing."""
    async with routed() as site:
        await site.redis.delete(KEYS.route("alice"))
        site.redis.lost = 1
        assert await site.compares() == ("alice", None)
        assert site.redis.lost == 0


async def test_heads_are_compared_when_another_era_has_begun() -> None:
    """Once an era, by the next write of anybody's; that there is none for a while changes nothing."""
    async with routed() as site:
        for number in (1, 2):
            await site.begin_era(number)
            site.routes.write("alice")
            await site.routes.settled()
        await site.redis.delete(KEYS.era())
        site.routes.write("alice")
        await site.routes.settled()
        await site.begin_era(2)
        site.routes.write("alice")
        await site.routes.settled()
        assert site.compared == [("alice", None)]


async def test_whoever_cannot_be_routed_is_compared_with_the_inbox() -> None:
    """At each renewal, for as long as the keys are broken."""
    async with routed() as site:
        await site.redis.delete(KEYS.route("alice"))
        await site.redis.set(KEYS.route("alice"), "broken")
        assert [await site.compares() for _ in range(2)] == [("alice", None)] * 2
