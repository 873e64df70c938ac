"""A TCP proxy that stands between two processes and makes the network between them as bad as is asked for.

    async with Link("edge-1>redis", redis_port) as link:
        start_the_edge(redis_url=f"redis://127.0.0.1:{link.port}/0")
        link.suffer(CUT)
        link.recover(CUT)

Theory of operation. Each connection that is accepted is carried to the target on a connection of its own, both ways, byte for
byte. What a link suffers from at a time is a bag of troubles, so that two of them may overlap and end in any order:

- *cut*: every connection is reset, and whoever connects is reset at once.
- *stalled* (a black hole): connections are accepted and stay open, and nothing arrives, not even their end. When it is over,
  what was sent meanwhile comes through, as after a network partition that TCP has outlived.
- *delay* and *throttle*: bytes arrive in order, and later.

What is not read stays in the sender's own buffers, so a connection here holds some 200 KiB a way at most. An end of file is
carried along as such, anything harsher as a reset.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

HOST: Final = "127.0.0.1"

PIECE_MAX_BYTES: Final = 65_536
"""Most bytes carried at once. A throttled link shares its time between connections in pieces of this size."""

CONNECT_TIMEOUT_S: Final = 5.0

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time: closing sends RST


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with a link.

    Attributes:
        cut: connections are reset, new ones too.
        stalled: nothing is carried.
        delay_ms: how much later each piece arrives; up to twice as much for what is sent while a piece before it waits.
        jitter_ms: up to so much later still, drawn for each piece.
        bytes_per_s: how much is carried at most, each way of each connection; 0 for no limit.
    """

    cut: bool = False
    stalled: bool = False
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    bytes_per_s: float = 0.0

    def pause_s(self, size: int, luck: float) -> float:
        """Return how long a piece of `size` bytes is held up; `luck`, 0 to 1, is how much of the jitter it gets."""
        on_the_line_s = size / self.bytes_per_s if self.bytes_per_s else 0.0
        return (self.delay_ms + luck * self.jitter_ms) / 1000 + on_the_line_s


CUT: Final = Trouble(cut=True)
BLACK_HOLE: Final = Trouble(stalled=True)


def together(troubles: Iterable[Trouble]) -> Trouble:
    """Return several troubles at once as one: delays add up, the narrowest throttle counts."""
    found = tuple(troubles)
    return Trouble(
        cut=any(trouble.cut for trouble in found),
        stalled=any(trouble.stalled for trouble in found),
        delay_ms=sum(trouble.delay_ms for trouble in found),
        jitter_ms=sum(trouble.jitter_ms for trouble in found),
        bytes_per_s=min((trouble.bytes_per_s for trouble in found if trouble.bytes_per_s), default=0.0),
    )


class Link:
    """An address of ours that leads to another process, and what may go wrong on the way.

    Args:
        name: for people, such as `edge-1>redis`.
        target_port: where it leads on 127.0.0.1; see `lead_to`.

    Attributes:
        name: as given.
        port: where it listens on 127.0.0.1, once opened.
        trouble: what it suffers from now.
        carried_bytes: how much has been carried, both ways.
    """

    def __init__(self, name: str, target_port: int) -> None:
        self.name = name
        self.port = 0
        self.trouble = Trouble()
        self.carried_bytes = 0
        self._target_port = target_port
        self._troubles: list[Trouble] = []
        self._moving = asyncio.Event()
        self._moving.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._random = random.Random(name)  # noqa: S311 - jitter

    async def open(self, port: int = 0) -> Self:
        """Listen on `port`, or on one that the kernel chooses."""
        self._server = await asyncio.start_server(self._accept, HOST, port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def close(self) -> None:
        """Listen no more, and reset what is open."""
        if self._server is not None:
            self._server.close()
        self.reset()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    @property
    def target_port(self) -> int:
        """Where connections that are made from now on lead to."""
        return self._target_port

    def lead_to(self, target_port: int) -> None:
        """Let the address lead to another process. Connections to the old one are reset, as by a balancer or a virtual IP."""
        if target_port != self._target_port:
            self._target_port = target_port
            self.reset()

    def suffer(self, trouble: Trouble) -> None:
        """Add a trouble, which lasts until `recover` is called with an equal one."""
        self._troubles.append(trouble)
        self._change()

    def recover(self, trouble: Trouble) -> None:
        """Take a trouble away.

        Raises:
            ValueError: when the link does not suffer from it.
        """
        self._troubles.remove(trouble)
        self._change()

    def reset(self) -> None:
        """Reset every connection; new ones are taken as before."""
        for connection in self._connections:
            connection.cancel()

    def _change(self) -> None:
        self.trouble = together(self._troubles)
        if self.trouble.stalled:
            self._moving.clear()
        else:
            self._moving.set()
        if self.trouble.cut:
            self.reset()

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if not self.trouble.cut:
                await self._connect(reader, writer)
        except* (OSError, asyncio.CancelledError):
            reset_connection(writer)
        finally:
            self._connections.discard(task)
            reset_connection(writer)

    async def _connect(self, near: StreamReader, writer: StreamWriter) -> None:
        await self._moving.wait()
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            far, far_writer = await asyncio.open_connection(HOST, self._target_port)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._carry(near, far_writer))
                ways.create_task(self._carry(far, writer))
            await _finish(writer, far_writer)
        finally:
            reset_connection(far_writer)

    async def _carry(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Bring everything from reader to writer, and then the end of file."""
        while data := await self._next(reader):
            self.carried_bytes += len(data)
            if writer.is_closing():
                raise ConnectionResetError(f"{self.name}: the other side is gone")  # to uvloop a write would be our mistake
            writer.write(data)
            await writer.drain()
        if not writer.is_closing():
            writer.write_eof()

    async def _next(self, reader: StreamReader) -> bytes:
        """Return the next piece when it is to arrive; b"" at the end of file.

        Raises:
            OSError: the sender has reset the connection.
        """
        try:
            data = await reader.read(PIECE_MAX_BYTES)
        except OSError:
            await self._moving.wait()  # nobody on the far side of a black hole hears of it
            raise
        pause_s = self.trouble.pause_s(len(data), self._random.random())
        if pause_s:
            await asyncio.sleep(pause_s)
        await self._moving.wait()
        return data

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()


async def _finish(*writers: StreamWriter) -> None:
    """Close connections whose both ways have come to their end."""
    for writer in writers:
        writer.close()
    for writer in writers:
        with suppress(OSError):
            await writer.wait_closed()


def reset_connection(writer: StreamWriter) -> None:
    """Reset a connection, unless it is closed already."""
    transport = writer.transport
    if transport.is_closing():
        return
    with socket.socket(fileno=socket.dup(transport.get_extra_info("socket").fileno())) as handle:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
