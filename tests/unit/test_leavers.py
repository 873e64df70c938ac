"""router.leavers: when dispatch looks who has left, and when it listens first."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from router.leavers import Gone, Leavers, Said
from router.ops import Health
from router.outage import Outages
from router.settings import Settings

pytestmark = pytest.mark.anyio

GRACE_S = 0.3
SETTINGS = Settings(offline_grace_ms=int(GRACE_S * 1000), backoff_min_ms=1, backoff_max_ms=2)
PROMPT_S = 20.0


class Desk:
    """What one owner asks of Redis, and when."""

    def __init__(self) -> None:
        self.looks_s: list[float] = []
        self.server = "one"
        self.away = False
        self.turns = 0

    async def history(self) -> str:
        """Tell which history Redis has."""
        if self.away:
            raise RedisConnectionError
        return self.server

    async def waiting(self) -> int:
        """Tell how many wait."""
        self.turns += 1
        return 0

    async def see_to_node(self, held: str) -> Gone:
        """Note that somebody looks."""
        assert held == "me 1"
        self.looks_s.append(time.monotonic())
        return Gone("", 0, over=False)

    async def say(self, held: str) -> Said:
        """Say nothing."""
        del held
        return Said(0, 0)

    async def check(self, held: str, cursor: int) -> tuple[int, int]:
        """Find nobody."""
        del held, cursor
        return 0, 0

    async def until_a_look(self) -> float:
        """Return when somebody looks next."""
        self.looks_s.clear()
        await until(lambda: self.looks_s)
        return self.looks_s[0]


async def until(holds: Callable[[], object]) -> None:
    """Return when it holds."""
    with anyio.fail_after(PROMPT_S):
        while not holds():  # noqa: ASYNC110 - nothing tells
            await anyio.sleep(0.005)


@asynccontextmanager
async def owned() -> AsyncIterator[Desk]:
    """Yield a desk at which somebody owns dispatch."""
    desk: Any = Desk()
    leavers = Leavers(desk, 0, SETTINGS, Outages(Health(), SETTINGS))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leavers.run, "me 1")
        yield desk
        tasks.cancel_scope.cancel()


async def test_a_new_owner_waits_for_the_grace() -> None:
    """Nodes may have had no Redis to say to that they live."""
    begun_s = time.monotonic()
    async with owned() as desk:
        assert await desk.until_a_look() - begun_s >= GRACE_S


async def test_an_owner_waits_for_the_grace_after_an_outage() -> None:
    """Once it is over, however long it was."""
    async with owned() as desk:
        await desk.until_a_look()
        desk.away = True
        turns = desk.turns
        await anyio.sleep(2 * GRACE_S)  # an outage that is longer than the grace is what this is about
        assert desk.turns <= turns + 1
        back_s, desk.away = time.monotonic(), False
        assert await desk.until_a_look() - back_s >= GRACE_S


async def test_an_owner_waits_for_the_grace_where_redis_has_another_history() -> None:
    """It was restarted between two turns, and the driver has connected again by itself."""
    async with owned() as desk:
        await desk.until_a_look()
        turns = desk.turns
        changed_s, desk.server = time.monotonic(), "two"
        await until(lambda: desk.turns > turns + 1)
        assert await desk.until_a_look() - changed_s >= GRACE_S
