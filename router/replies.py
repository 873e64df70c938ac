"""What comes on a connection to Redis, reply by reply: in the place of the driver's reading, which costs more than many a call.

The driver makes a timer, a task's timeout and three layers of coroutines for each reply. Here a read of the socket hands its
bytes to hiredis' parser, and wakes whoever waits once his reply is whole; one timer looks now and then whether he has waited
too long. Connecting, TLS, the greeting and closing stay the driver's, and so does what an error is called.

Source: https://docs.python.org/3/library/asyncio-protocol.html
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import hiredis
from redis.asyncio.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError


class Replies(asyncio.Protocol):
    """The replies that come on a connection, from now on.

    One task at a time waits for them, and whoever stops waiting gives the connection up: a reply may be lost with him.

    Args:
        transport: of a connection on which no reply is owed; it is taken from the driver's streams, which hear of its end only.
        timeout_s: how long Redis may be silent while somebody waits.
    """

    def __init__(self, transport: asyncio.BaseTransport, timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._streams = cast(asyncio.Protocol, transport.get_protocol())
        self._timeout_s = timeout_s
        self._parser = hiredis.Reader(protocolError=InvalidResponse, replyError=DefaultParser.parse_error)
        self._lost: Exception | None = None
        self._waiter: asyncio.Future[Any] | None = None
        self._waits_since_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        transport.set_protocol(self)

    async def next(self) -> Any:  # noqa: ANN401 - a command's reply, or an error that is one
        """Return the next reply.

        Raises:
            RedisError: when Redis is away, silent, or says that it is not ready.
        """
        reply = self._parser.gets()
        if reply is False:
            reply = await self._wait()
        if isinstance(reply, RedisConnectionError):
            raise reply
        return reply

    async def _wait(self) -> Any:  # noqa: ANN401 - likewise
        if self._lost is not None:
            raise self._lost
        self._waiter = self._loop.create_future()
        self._waits_since_s = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_s, self._look)
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def _look(self) -> None:
        """End a wait that has taken too long; look again when the present one will have."""
        self._timer = None
        if self._waiter is None:
            return
        left_s = self._waits_since_s + self._timeout_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look)
        else:
            self._fail(RedisTimeoutError(f"Redis was silent for {self._timeout_s:g} s"))

    def data_received(self, data: bytes) -> None:
        """Take in what was read, and wake who waits when his reply is whole."""
        self._parser.feed(data)
        if self._waiter is None or self._waiter.done():
            return
        try:
            reply = self._parser.gets()
        except InvalidResponse as exc:
            self._fail(exc)
            return
        if reply is not False:
            self._waiter.set_result(reply)

    def eof_received(self) -> bool | None:
        """Redis will say nothing more."""
        self._lose(None)
        return self._streams.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Redis, the network or the driver closed the connection."""
        self._lose(exc)
        if self._timer is not None:
            self._timer.cancel()
        self._streams.connection_lost(exc)

    def pause_writing(self) -> None:
        """Have the driver write no more for now."""
        self._streams.pause_writing()

    def resume_writing(self) -> None:
        """Have it write again."""
        self._streams.resume_writing()

    def _lose(self, cause: Exception | None) -> None:
        self._lost = self._lost or RedisConnectionError(str(cause or "Redis closed the connection"))
        self._fail(self._lost)

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
