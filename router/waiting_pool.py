"""The driver's pool of connections, but that whoever finds none left waits for one.

The driver's own pool raises then, which is told from an outage by its text alone. Its other pool, which waits, takes a lock to
get a connection back: whoever is cancelled while others wait for that keeps the connection for good.
"""

from __future__ import annotations

from typing import Any

import anyio
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError


class WaitingPool(ConnectionPool):
    """A pool of at most `max_connections`, handed out in the order in which they were asked for.

    Args:
        max_connections: how many there are at most.
        wait_timeout_s: how long to wait for one.
        options: as the driver's pool has them.
    """

    def __init__(self, max_connections: int, wait_timeout_s: float, **options: Any) -> None:  # noqa: ANN401 - the driver's
        super().__init__(max_connections=max_connections, **options)
        self.wait_timeout_s = wait_timeout_s
        self._free = anyio.Semaphore(max_connections)
        self._lent: set[AbstractConnection] = set()

    async def get_connection(self, command_name: str | None = None, *keys: Any, **options: Any) -> AbstractConnection:  # noqa: ANN401 - the driver's signature
        """Return a connection that works.

        Raises:
            RedisError, OSError: when none could be had in time, or Redis cannot be reached.
        """
        del command_name, keys, options
        try:
            with anyio.fail_after(self.wait_timeout_s):
                await self._free.acquire()
        except TimeoutError:
            raise RedisConnectionError(
                f"none of {self.max_connections} connections was free in {self.wait_timeout_s:g} s"
            ) from None
        try:
            connection: AbstractConnection = await super().get_connection()  # type: ignore[no-untyped-call]
        except BaseException:
            self._free.release()
            raise
        self._lent.add(connection)
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        """Give a connection back."""
        try:
            await super().release(connection)
        finally:
            # The driver gives back by itself one that turned out not to work, before anybody had it.
            if connection in self._lent:
                self._lent.remove(connection)
                self._free.release()
