"""Connections to whichever server is the primary of a slot at the moment, for the driver's own client.

To the driver it is a pool like any other, so pipelines, scripts, pub/sub and a connection of one's own work on it as they do on
one server. It holds no connections: those are in `Pools`, one of the driver's pools an address, which all slots share.
"""

from __future__ import annotations

import re
from typing import Any, Final

import anyio
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ClusterDownError, MovedError, ReadOnlyError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from router.primaries import Primaries
from router.redis_url import Address
from router.waiting_pool import WaitingPool

_DOUBTFUL: Final = (RedisConnectionError, RedisTimeoutError, OSError, ReadOnlyError, ClusterDownError)
"""A connection that broke, and what a server answers that is not the primary and does not know who is."""

_MOVED: Final = re.compile(r"MOVED (\d+) (.*):(\d+)$")


class Pools:
    """A pool of connections an address, made when one is first needed.

    Args:
        pattern: a pool whose connections are as those here are to be, but for the address; none is taken from it.
        primaries: are told of a connection that breaks, or that leads to somebody else than was thought.
    """

    def __init__(self, pattern: WaitingPool, primaries: Primaries) -> None:
        self._pattern = pattern
        self._primaries = primaries
        self._pools: dict[Address, WaitingPool] = {}

    def at(self, address: Address) -> WaitingPool:
        """Return the pool of a server."""
        if address not in self._pools:
            self._pools[address] = self._make(address)
        return self._pools[address]

    async def disconnect(self) -> None:
        """Close all connections, those to all servers at once: one that does not close in time keeps no other one open.

        Raises:
            RedisError, OSError: when one has not closed well.
        """
        problems: list[Exception] = []

        async def close(pool: WaitingPool) -> None:
            try:
                await pool.disconnect()
            except (RedisError, OSError) as exc:
                problems.append(exc)

        async with anyio.create_task_group() as tasks:
            for pool in self._pools.values():
                tasks.start_soon(close, pool)
        if problems:
            raise problems[0]

    def _make(self, address: Address) -> WaitingPool:
        pattern = self._pattern
        told = {"primaries": self._primaries, "address": address}
        kind = type("Followed", (_Followed, pattern.connection_class), told)
        kwargs = pattern.connection_kwargs | {"host": address.host, "port": address.port}
        bounds = (pattern.max_connections, pattern.wait_timeout_s)
        return WaitingPool(*bounds, connection_class=kind, **kwargs)


class _Followed(AbstractConnection):
    """A connection that tells when there is doubt whether it leads to the primary."""

    primaries: Primaries
    address: Address

    async def connect(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the driver's signature
        try:
            await super().connect(*args, **kwargs)  # type: ignore[no-untyped-call]
        except (RedisError, OSError):
            self.primaries.doubt(self.address)
            raise

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the driver's signature
        try:
            return await super().read_response(*args, **kwargs)
        except MovedError as exc:
            # A server that does not know its own name leaves it out: the slot is then where the question went.
            self.primaries.moved(exc.slot_id, Address(exc.host or self.address.host, exc.port))
            raise
        except _DOUBTFUL:
            self.primaries.doubt(self.address)
            raise


class PrimaryPool(ConnectionPool):
    """The primary of one slot, as a pool of connections.

    Args:
        slot: which.
        primaries: know who it is.
        pools: have the connections.
        pattern: as of `Pools`.
    """

    def __init__(self, slot: int, primaries: Primaries, pools: Pools, pattern: WaitingPool) -> None:
        super().__init__(pattern.connection_class, pattern.max_connections, **pattern.connection_kwargs)
        self.slot = slot
        self.primaries = primaries
        self.pools = pools
        self._lent: dict[AbstractConnection, WaitingPool] = {}

    async def get_connection(self, command_name: str | None = None, *keys: Any, **options: Any) -> AbstractConnection:  # noqa: ANN401 - the driver's signature
        """Return a connection to the primary.

        Raises:
            RedisError, OSError: when there is none, or it cannot be reached.
        """
        del command_name, keys, options
        pool = self.pools.at(await self.primaries.of(self.slot))
        connection: AbstractConnection = await pool.get_connection()
        self._lent[connection] = pool
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        """Give a connection back to whose it is."""
        await self._lent.pop(connection).release(connection)

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close all connections, also those of other slots."""
        del inuse_connections
        await self.pools.disconnect()

    async def address(self) -> Address:
        """Return where the primary is.

        Raises:
            RedisError, OSError: when nobody who was asked knows.
        """
        return await self.primaries.of(self.slot)

    def leads_here(self, connection: Any) -> bool:  # noqa: ANN401 - one of the driver's, which this has lent
        """Tell whether a connection leads to the primary as it was last found out."""
        known = self.primaries.known(self.slot)
        return known is None or (connection.host, connection.port) == known

    async def left(self, address: Address) -> None:
        """Return when the primary is known to be another than this."""
        await self.primaries.left(self.slot, address)


def primary_pool_of(redis: Redis) -> PrimaryPool | None:
    """Return what follows the primary of a client; None of a client of one address."""
    pool = redis.connection_pool
    return pool if isinstance(pool, PrimaryPool) else None


def read_moved(error: str, asked: Address) -> tuple[int, Address] | None:
    """Return slot and new primary of an error that begins with MOVED; None of any other.

    Args:
        error: its text.
        asked: who said so: a server that does not know its own name leaves it out.
    """
    found = _MOVED.match(error)
    return (int(found[1]), Address(found[2] or asked.host, int(found[3]))) if found else None
