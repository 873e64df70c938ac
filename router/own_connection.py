"""A connection of one's own, for a loop whose every turn is a call to Redis.

Taking a connection from the pool, asking whether it still works, and giving it back cost more than many a call does. Who calls
a thousand times a second keeps one, and sends what belongs together in one write. It is one of the driver's pool all the same,
so addresses, TLS, passwords, timeouts and what it raises are those of every other call.
"""

from __future__ import annotations

from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.exceptions import AskError

from router.cluster_redis import client_at
from router.primary_pool import primary_pool_of


class OwnConnection:
    """One connection that stays, and makes itself anew when it is lost.

    Commands are sent, and then their replies received, one by one and in order. Whoever gives up in between, because of an
    error or by cancellation, just sends again: replies that nobody waits for any more are left behind with their connection.

    Args:
        redis: the client whose pool it comes from, and which closes it in the end.
        key: one of those that the commands are about; it leads to the server that has them.
    """

    def __init__(self, redis: Redis, key: str) -> None:
        self._pool: Any = client_at(redis, key).connection_pool
        self._home = primary_pool_of(client_at(redis, key))
        self._connection: Any = None
        self.owed = 0
        """How many replies have not been received."""

    async def send(self, packed: bytes, replies: int) -> None:
        """Send commands in one write.

        Args:
            packed: the commands, as `pack` returns them.
            replies: how many of them there are.

        Raises:
            RedisError: when Redis is away.
        """
        connection = await self._ready()
        self.owed = replies
        await connection.send_packed_command(packed, check_health=False)

    async def receive(self) -> Any:  # noqa: ANN401 - a command's reply
        """Return the next reply.

        Raises:
            ResponseError: when the reply is an error; those behind it can still be received.
            RedisError: when Redis is away, or silent for `redis_timeout_s`.
        """
        self.owed -= 1
        try:
            return await self._connection.read_response()
        except AskError:  # MOVED is one
            await self._connection.disconnect(nowait=True)
            raise

    async def _ready(self) -> Any:  # noqa: ANN401 - the driver's connection, which has a class a URL scheme
        connection = self._connection
        if connection is None:
            self._connection = await self._pool.get_connection()
        elif self.owed or not connection.is_connected or not (self._home is None or self._home.leads_here(connection)):
            await connection.disconnect(nowait=True)
            # Back to the pool, which knows where the server is now.
            self._connection = None
            await self._pool.release(connection)
            self._connection = await self._pool.get_connection()
        return self._connection


def pack(*command: str | bytes | int) -> bytes:
    """Return a command as it goes over the wire."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # it says that it takes one part only
    return packed
