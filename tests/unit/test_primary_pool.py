"""router.primary_pool: closing what leads to several servers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest
from redis.exceptions import TimeoutError as RedisTimeoutError

from router.primaries import ClusterPrimaries, Slots
from router.primary_pool import Pools
from router.redis_url import Address
from router.waiting_pool import WaitingPool

pytestmark = pytest.mark.anyio

A, B, C = (Address(name, 1) for name in "abc")


async def _nobody(_: Address) -> Slots:
    return {}


class Closing:
    """Pools to three servers, and which of them have been closed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, how: Callable[[Address], Awaitable[None]]) -> None:
        self.closed: list[Address] = []
        self.pools = Pools(WaitingPool(1, 1.0), ClusterPrimaries([A], _nobody))
        for address in (A, B, C):
            monkeypatch.setattr(self.pools.at(address), "disconnect", lambda address=address: self._close(address, how))

    async def _close(self, address: Address, how: Callable[[Address], Awaitable[None]]) -> None:
        await how(address)
        self.closed.append(address)


async def test_server_that_fails_to_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is told, once the others are closed."""

    async def fail(address: Address) -> None:
        await anyio.lowlevel.checkpoint()
        if address == A:
            raise RedisTimeoutError("closing")

    closing = Closing(monkeypatch, fail)
    with pytest.raises(RedisTimeoutError):
        await closing.pools.disconnect()
    assert closing.closed == [B, C]


async def test_server_that_never_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gives up waiting for it has closed the others."""
    closing = Closing(monkeypatch, lambda address: anyio.sleep_forever() if address == A else anyio.lowlevel.checkpoint())
    with anyio.move_on_after(0.1) as scope:
        await closing.pools.disconnect()
    assert scope.cancelled_caught
    assert closing.closed == [B, C]
