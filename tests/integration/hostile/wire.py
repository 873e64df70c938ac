"""A client of bytes: sends what no library would, and reads what is answered."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple

import anyio
from anyio.abc import ByteStream

from tests.integration.edges import PROMPT_S, Edge

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

FIN: Final = 0x80
MASK: Final = 0x80

_KEY: Final = b"\x11\x22\x33\x44"
_MAX_7: Final = 125
_MAX_16: Final = 0xFFFF

KEYS: Final = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
"""What makes a request an upgrade."""


def frame(first: int, payload: bytes = b"", *, masked: bool = True, form: int = 0) -> bytes:
    """Return a frame.

    Args:
        first: its first byte: FIN, reserved bits and opcode.
        payload: what it carries.
        masked: as a client's has to be.
        form: 126 or 127 for a length that is longer than it need be.
    """
    mask = MASK if masked else 0
    size = len(payload)
    form = form or (size if size <= _MAX_7 else 126 if size <= _MAX_16 else 127)
    length = {126: struct.pack("!H", size), 127: struct.pack("!Q", size)}.get(form, b"")
    if not masked:
        return bytes((first, form)) + length + payload
    return bytes((first, mask | form)) + length + _KEY + bytes(byte ^ _KEY[at % 4] for at, byte in enumerate(payload))


def text(payload: bytes) -> bytes:
    """Return a text frame."""
    return frame(FIN | TEXT, payload)


def close(code: int, reason: bytes = b"") -> bytes:
    """Return a close frame."""
    return frame(FIN | CLOSE, struct.pack("!H", code) + reason)


class Answered(NamedTuple):
    """A frame of the edge's, which is whole and not masked."""

    opcode: int
    payload: bytes

    @property
    def code(self) -> int:
        """The code of a close frame; 1005 where it has none (RFC 6455 section 7.1.5)."""
        return struct.unpack("!H", self.payload[:2])[0] if self.payload else 1005


class Raw:
    """A connection, from its first byte."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self._rest = b""

    async def send(self, data: bytes) -> None:
        """Send bytes, unless the edge has gone already."""
        with suppress(anyio.BrokenResourceError, ConnectionError):
            await self.stream.send(data)

    async def head(self) -> bytes:
        """Return the answer to a request, up to its empty line; less where the connection ends before."""
        while b"\r\n\r\n" not in self._rest and await self._more():
            pass
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        return head

    async def all(self) -> bytes:
        """Return what comes until the connection ends."""
        while await self._more():
            pass
        whole, self._rest = self._rest, b""
        return whole

    async def next(self) -> Answered | None:
        """Return the next frame, None at the end of the connection."""
        while (found := _split(self._rest)) is None:
            if not await self._more():
                return None
        answered, self._rest = found
        return answered

    async def frames(self) -> list[Answered]:
        """Return the frames that come until the connection ends."""
        found: list[Answered] = []
        while (answered := await self.next()) is not None:
            found.append(answered)
        return found

    async def _more(self) -> bool:
        with anyio.fail_after(PROMPT_S):
            try:
                self._rest += await self.stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError, ConnectionError):
                return False
        return True


def _split(data: bytes) -> tuple[Answered, bytes] | None:
    """Return the first frame and what is behind it; None where it is not whole."""
    if len(data) < 2:
        return None
    form = data[1]
    head = {126: 4, 127: 10}.get(form, 2)
    size = form if head == 2 else int.from_bytes(data[2:head])
    if len(data) < head + size:
        return None
    assert data[0] & 0x70 == 0, "a reserved bit"
    return Answered(data[0] & 0x0F, data[head : head + size]), data[head + size :]


@asynccontextmanager
async def dial(port: int) -> AsyncIterator[Raw]:
    """Yield a connection on which nothing has been said."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        yield Raw(stream)


@asynccontextmanager
async def live(edge: Edge, user: str = "mallory") -> AsyncIterator[Raw]:
    """Yield a connection that has had its welcome."""
    request = b"GET /v1/connect HTTP/1.1\r\nHost: x\r\n%bAuthorization: Bearer %b\r\n\r\n"
    async with dial(edge.settings.edge_port) as raw:
        await raw.send(request % (KEYS, edge.token(user).encode()))
        assert (await raw.head()).startswith(b"HTTP/1.1 101 ")
        welcome = await raw.next()
        assert welcome is not None
        assert b'"welcome"' in welcome.payload
        yield raw
