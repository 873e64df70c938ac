"""One hostile connection: a raw socket that says exactly what an attack wants said, and reads only when it wants to."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple, Self

import anyio

from edge.upgrade import PATH, SUBPROTOCOL

Address = tuple[str, int]

TEXT: Final = 0x1
CONT: Final = 0x0
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
FIN: Final = 0x80
RSV1: Final = 0x40

_MASKED: Final = 0x80
_MAX_7: Final = 125
_MAX_16: Final = 0xFFFF
_READ: Final = 65_536
_LOOK_S: Final = 0.1
_RESET: Final = struct.pack("ii", 1, 0)

UPGRADE: Final = (
    f"GET {PATH}%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\nSec-WebSocket-Key: %s\r\n%s\r\n"
)


class Ending(NamedTuple):
    """How the edge ended a connection: with a close frame's code, or an HTTP status; without either both are None."""

    code: int | None = None
    status: int | None = None

    def __str__(self) -> str:
        return str(self.code) if self.code else f"HTTP {self.status}" if self.status else "cut"


def frame(opcode: int, payload: bytes = b"", *, bits: int = FIN, length: int | None = None) -> bytes:
    """Return a client's frame, masked with zeros (a mask that leaves the payload as it is).

    Args:
        opcode: of the frame.
        payload: what it carries.
        bits: FIN and the reserved bits.
        length: what the header says, if not the truth.
    """
    size = len(payload) if length is None else length
    return bytes((bits | opcode,)) + _length(size) + bytes(4) + payload


def _length(size: int) -> bytes:
    if size <= _MAX_7:
        return bytes((_MASKED | size,))
    if size <= _MAX_16:
        return bytes((_MASKED | 126,)) + size.to_bytes(2, "big")
    return bytes((_MASKED | 127,)) + size.to_bytes(8, "big")


def request(host: str, query: str = "", token: str | None = None, more: str = "") -> bytes:
    """Return the request of an upgrade; `more` are further headers, each with its line end."""
    bearer = f"Authorization: Bearer {token}\r\n" if token is not None else ""
    return (UPGRADE % (query, host, base64.b64encode(secrets.token_bytes(16)).decode(), bearer + more)).encode()


class Peer:
    """A connection; close it, or use it in a `with`.

    Attributes:
        status: the HTTP status of the answer, when that was read.
    """

    def __init__(self, sock: socket.socket, to: Address) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._host = f"{to[0]}:{to[1]}"
        self._read = b""
        self._first: tuple[int, bytes] | None = None
        self.status: int | None = None

    @classmethod
    async def dial(cls, source: Address, to: Address, receive_bytes: int = 0) -> Self:
        """Connect from one address to another, with a receive buffer of that size if one is given.

        Raises:
            OSError: when that cannot be done.
        """
        sock = socket.socket()
        try:
            sock.setblocking(False)
            # Many ports of many addresses: take the port at the connect, when the whole four are known.
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
            if receive_bytes:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            sock.bind(source)
            await asyncio.get_running_loop().sock_connect(sock, to)
        except BaseException:
            sock.close()
            raise
        return cls(sock, to)

    async def say(self, data: bytes) -> None:
        """Send bytes, all of them.

        Raises:
            OSError: when the edge has ended the connection.
        """
        await self._loop.sock_sendall(self._sock, data)

    async def ask(self, token: str) -> None:
        """Ask for a WebSocket, and do not wait for the answer; nothing happens where the edge has gone."""
        with suppress(OSError):
            await self.say(request(self._host, token=token))

    async def upgrade(self, query: str = "", token: str | None = None, more: str = "") -> bool:
        """Ask for a WebSocket, and tell whether it was given.

        Raises:
            OSError: when the edge has ended the connection.
        """
        await self.say(request(self._host, query, token, more))
        while b"\r\n\r\n" not in self._read:
            if not await self._more():
                return False
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        self.status = int(head.split(b" ", 2)[1])
        return self.status == 101

    async def hear(self) -> tuple[int, bytes] | None:
        """Return opcode and payload of the next frame; None when there is none to come.

        Raises:
            OSError: when the edge has reset the connection.
        """
        while (found := _parsed(self._read)) is None:
            if not await self._more():
                return None
        opcode, payload, self._read = found
        return opcode, payload

    async def welcomed(self, token: str, query: str = "") -> bool:
        """Come in with a good token, and tell whether the welcome came; if not, `ending` tells what came instead.

        Raises:
            OSError: when the edge has ended the connection.
        """
        if not await self.upgrade(query, token):
            return False
        self._first = await self.hear()
        return self._first is not None and self._first[0] == TEXT

    async def ending(self, answer: bool = True, heard: Callable[[dict[str, Any]], None] | None = None) -> Ending:
        """Read on until the edge ends the connection, and say how; answer its close frame.

        Args:
            answer: whether to answer its close frame.
            heard: is told of each frame that it has said.
        """
        try:
            while (came := self._first or await self.hear()) is not None:
                self._first = None
                if came[0] == CLOSE:
                    if answer:
                        with suppress(OSError):
                            await self.say(frame(CLOSE, came[1][:2]))
                    return Ending(code=int.from_bytes(came[1][:2], "big"))
                if heard is not None and came[0] == TEXT:
                    heard(json.loads(came[1]))
        except OSError:
            pass
        return Ending(status=self.status if self.status != 101 else None)

    async def pour(self, data: bytes, pause_s: float = 0.0) -> Ending:
        """Send these bytes again and again, whatever the edge says, until it ends the connection; say how."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._pour, data, pause_s)
            ending = await self.ending(answer=False)
            tasks.cancel_scope.cancel()
        return ending

    async def _pour(self, data: bytes, pause_s: float) -> None:
        with suppress(OSError):
            while True:
                await self.say(data)
                await anyio.sleep(pause_s)

    async def answer(self) -> Ending:
        """Return what the edge says to what is no WebSocket: a status, or nothing before it ends the connection."""
        words = (await self.answers()).split(b" ", 2)
        return Ending(status=int(words[1])) if len(words) > 1 else Ending()

    @property
    def said(self) -> bytes:
        """What has been read of an answer so far."""
        return self._read

    async def answers(self) -> bytes:
        """Return all that is said until the other end ends the connection."""
        with suppress(OSError):
            while await self._more():
                pass
        return self._read

    async def cut_off(self, until: anyio.Event) -> Ending:
        """Read nothing until the edge has reset the connection, or for as long as that is wished."""
        while not until.is_set():
            if self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                break
            await anyio.sleep(_LOOK_S)
        return Ending()

    def finish(self) -> None:
        """Say that nothing more comes; nothing happens where the other end has gone."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self, *, reset: bool = False) -> None:
        """Close the socket; with `reset` the kernel forgets the connection at once."""
        if reset:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._sock.close()

    async def _more(self) -> bool:
        data = await self._loop.sock_recv(self._sock, _READ)
        self._read += data
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close(reset=True)


def _parsed(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Return opcode, payload and what is behind a server's frame; None where it is not whole."""
    if len(data) < 2:
        return None
    size, at = data[1], 2
    if size > _MAX_7:
        wide = 2 if size == 126 else 8
        size, at = int.from_bytes(data[2 : 2 + wide], "big"), 2 + wide
    if len(data) < at + size:
        return None
    return data[0] & 0x0F, data[at : at + size], data[at + size :]
