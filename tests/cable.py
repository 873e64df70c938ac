"""A cable between a client and an edge, in the test's hands: a TCP forwarder that can cut connections, or swallow them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import anyio
from anyio.abc import SocketAttribute, SocketStream


class Cable:
    """Forwards connections to an edge.

    Attributes:
        url: the edge's address, through it.
    """

    def __init__(self, to_port: int, url: str) -> None:
        self.url = url
        self._to_port = to_port
        self._open: set[SocketStream] = set()
        self._dark: set[SocketStream] = set()

    def unplug(self) -> None:
        """Swallow all there is on the connections it has, in both directions: nobody is told that they are gone."""
        self._dark |= self._open

    async def cut(self) -> None:
        """Close the connections it has, wherever they are."""
        for stream in list(self._open):
            await stream.aclose()

    async def serve(self, client: SocketStream) -> None:
        """Forward one connection."""
        self._open.add(client)
        async with client, await anyio.connect_tcp("127.0.0.1", self._to_port) as server, anyio.create_task_group() as tasks:
            tasks.start_soon(self._forward, client, server, client)
            tasks.start_soon(self._forward, server, client, client)
        self._open.discard(client)

    async def _forward(self, source: SocketStream, sink: SocketStream, client: SocketStream) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async for data in source:
                if client not in self._dark:
                    await sink.send(data)
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await sink.aclose()


@asynccontextmanager
async def cable(url: str) -> AsyncIterator[Cable]:
    """Yield a cable to the edge at an address; it ends with the block."""
    port = urlsplit(url).port
    assert port is not None
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        own = listener.extra(SocketAttribute.local_port)  # noqa: S610 - not Django's
        way = Cable(port, url.replace(f":{port}", f":{own}"))
        tasks.start_soon(listener.serve, way.serve)
        yield way
        tasks.cancel_scope.cancel()
