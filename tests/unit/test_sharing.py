"""router.sharing while it cannot be found out who else works: shard 0's primary of a Cluster is away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import anyio
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from router.handover import Handover
from router.ops import Health
from router.settings import Settings
from router.share import FREE
from router.sharing import Place, Sharing
from router.workers import Workers

pytestmark = pytest.mark.anyio

ME, OTHER = "me.1", "other.1"


class _Shards:
    """Leases that are in no Redis, and who is there; in the place of `Workers`."""

    def __init__(self, *holders: str) -> None:
        self.held_by = [*holders]
        self.away = True
        self.leases = [_Lease(self, shard) for shard in range(len(holders))]

    async def beat(self, worker: str) -> list[str]:
        if self.away:
            raise RedisConnectionError
        return [worker, OTHER]

    async def holders(self) -> list[str]:
        return [*self.held_by]

    async def leave(self, worker: str) -> None:
        """Nobody minds."""

    def asked_for(self) -> list[int]:
        """Return the shards that are to be given back."""
        return [shard for shard, lease in enumerate(self.leases) if lease.handover.asked]


class _Lease:
    def __init__(self, shards: _Shards, shard: int) -> None:
        self.key = f"lease of {shard}"
        self.handover = Handover()
        self._shards = shards
        self._shard = shard

    async def take(self) -> str:
        self._shards.held_by[self._shard] = ME
        return f"{ME} 1"

    async def keep(self, held: str, work: Callable[[str], Awaitable[None]]) -> None:
        await work(held)


async def _work(_held: str) -> None:
    await anyio.sleep_forever()


async def test_nobody_gives_and_free_shards_are_taken() -> None:
    """Who holds one too many keeps it until it is known who else is there, and takes what is free besides."""
    shards = _Shards(ME, ME, FREE, FREE, OTHER, OTHER)
    settings = Settings(worker="me", shards=6, lease_ms=500, backoff_min_ms=1, backoff_max_ms=10)
    places = [Place(cast(Any, lease), _work) for lease in shards.leases]
    sharing = Sharing("test", ME, cast(Workers, shards), places, settings, Health())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sharing.run)
        with anyio.fail_after(10):
            while shards.held_by != [ME, ME, ME, ME, OTHER, OTHER]:  # noqa: ASYNC110 - the other task rings no bell
                await anyio.sleep(0.01)
            assert shards.asked_for() == []
            shards.away = False
            while shards.asked_for() != [3]:  # noqa: ASYNC110 - likewise
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
