"""router.turns: turns, outages, and the end of a lease."""

from __future__ import annotations

import anyio
import pytest
from pymongo.errors import AutoReconnect
from redis.exceptions import ConnectionError as RedisConnectionError

from router.errors import Fenced
from router.ops import Health
from router.outage import Outages
from router.settings import Settings
from router.streams import NEW, TAKEN_BEFORE
from router.turns import take_turns

pytestmark = pytest.mark.anyio

QUICK = Settings(backoff_min_ms=1, backoff_max_ms=1)


async def test_failure_begins_again_with_what_was_taken() -> None:
    """Whichever server fails, the next turn takes what was taken before; the lease lost, it returns."""
    script: list[str | Exception] = [NEW, RedisConnectionError(), NEW, AutoReconnect(), TAKEN_BEFORE, Fenced()]
    starts: list[str] = []

    async def turn(start: str) -> str:
        starts.append(start)
        step = script.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    await take_turns(turn, Outages(Health(), QUICK))
    assert starts == [TAKEN_BEFORE, NEW, TAKEN_BEFORE, NEW, TAKEN_BEFORE, TAKEN_BEFORE]


async def test_lost_lease_forgets_the_outage() -> None:
    """A worker that loses its lease in the middle of an outage is a ready standby, not an unready one for good."""
    health = Health()
    failed = anyio.Event()

    async def turn(_start: str) -> str:
        failed.set()
        raise RedisConnectionError

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take_turns, turn, Outages(health, Settings(backoff_min_ms=60_000, backoff_max_ms=60_000)))
        await failed.wait()
        await anyio.wait_all_tasks_blocked()
        assert list(health.reasons) == ["redis"]
        tasks.cancel_scope.cancel()
    assert health.ready
