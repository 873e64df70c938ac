"""A TCP forwarder in front of Redis that can make an edge deaf: it lets commands through and swallows what is published."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
from anyio.abc import SocketStream


class Forwarder:
    """Forwards connections to a port of this machine.

    Attributes:
        port: where it listens.
    """

    def __init__(self, to_port: int) -> None:
        self.port = 0
        self._to_port = to_port
        self._subscribed: set[SocketStream] = set()
        self._deaf: set[SocketStream] = set()

    @property
    def url(self) -> str:
        """How a driver reaches Redis through it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def deafen(self) -> None:
        """Swallow, from now on, whatever Redis sends on the connections that have subscribed so far."""
        self._deaf |= self._subscribed

    async def serve(self, client: SocketStream) -> None:
        """Forward one connection."""
        async with client, await anyio.connect_tcp("127.0.0.1", self._to_port) as server, anyio.create_task_group() as tasks:
            tasks.start_soon(self._up, client, server)
            await self._down(server, client)
            tasks.cancel_scope.cancel()

    async def _up(self, client: SocketStream, server: SocketStream) -> None:
        async for data in client:
            if b"SSUBSCRIBE" in data:
                self._subscribed.add(client)
            await server.send(data)
        await server.aclose()

    async def _down(self, server: SocketStream, client: SocketStream) -> None:
        try:
            async for data in server:
                if client not in self._deaf:
                    await client.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # either side has gone; closing both is what is left to do


@asynccontextmanager
async def forwarding(to_port: int) -> AsyncIterator[Forwarder]:
    """Yield a forwarder that ends with the block."""
    forwarder = Forwarder(to_port)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        forwarder.port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - not Django's
        tasks.start_soon(partial(listener.serve, forwarder.serve))
        yield forwarder
        tasks.cancel_scope.cancel()
