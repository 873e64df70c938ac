"""TLS between a socket and the protocol above it: that protocol's transport, and the socket's protocol.

    socket ─▶ data_received ─▶ TLS ─▶ protocol.data_received
    socket ◀─ write         ◀─ TLS ◀─ write ◀─ protocol

In place of the event loop's own TLS, for three reasons. The protocol is told of a connection when it is made, and not when TLS
is through: so it is counted, and its time runs, while a client takes its time over the handshake. Each connection takes its
context when it comes, so a certificate can be replaced. And at rest there is little to it: the loop keeps a buffer of 256 KiB
for each.

TLS is OpenSSL's, by the standard library; this is only who hands which bytes to whom. A handshake is computed where it is,
in the loop, a few at each pass: it is what is dearest of all that anybody can have a door do, and a crowd's at once would hold
up those who are in. No task and no timer belongs to it: the protocol cuts off who is late.

Source: https://docs.python.org/3/library/ssl.html#memory-bio-support, RFC 8446 section 6.1 (closing)
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast

from router.crowd import Turns
from router.metrics import TLS_FAILED

_RECORD_BYTES: Final = 16_384
"""Most that goes through TLS at once, which is most that one of its records holds. OpenSSL's buffers never shrink."""

_HANDSHAKE_MAX_BYTES: Final = 32_768
"""Most that comes of a client before its handshake is through. A hello takes 2 KiB; OpenSSL would keep 128 KiB of one that does
not end."""

_PLAIN_HTTP: Final = frozenset({"HTTP_REQUEST", "HTTPS_PROXY_REQUEST"})
_SAID: Final = b"This port speaks TLS: use https:// or wss://.\n"
_TO_PLAIN_HTTP: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
    % (len(_SAID), _SAID)
)

_NOBODY: Final = asyncio.Protocol()
"""In the place of a protocol that has been told that all is over."""


class Sealed(asyncio.Protocol, asyncio.Transport):
    """A connection with TLS, of which we are the server.

    Args:
        protocol: what stands above it. It is told of everything as on a plain socket, and of bytes once TLS has opened them.
        context: the certificate to show.
        turns: has handshakes wait for each other.
        overhead: is told how many bytes more than what they carried have come; before that is handed on.
    """

    __slots__ = ("_came", "_ended", "_incoming", "_open", "_outgoing", "_overhead", "_protocol", "_socket", "_tls", "_turns")

    def __init__(
        self,
        protocol: asyncio.Protocol,
        context: ssl.SSLContext,
        turns: Turns,
        overhead: Callable[[int], None] = lambda _size: None,
    ) -> None:
        self._protocol = protocol
        self._turns = turns
        self._overhead = overhead
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._socket: asyncio.Transport
        self._came = 0  # bytes, before the handshake was through
        self._open = self._ended = False

    # -- called by the event loop ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A socket is there; the client is to begin."""
        self._socket = cast(asyncio.Transport, transport)
        self._protocol.connection_made(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came: open them, and hand on what they carried."""
        if self._ended:
            return
        if self._open:
            self._receive(data)
            return
        self._came += len(data)
        if self._turns.take(partial(self._shake, data)):
            return
        if not self._socket.is_closing():
            self._socket.pause_reading()  # or what comes next would be looked at first

    def _shake(self, data: bytes) -> None:
        """Take in bytes of the handshake, now that it is this connection's turn."""
        if self._ended or self._socket.is_closing():
            return
        if not self._socket.is_reading():
            self._socket.resume_reading()
        self._receive(data)
        if self._came > _HANDSHAKE_MAX_BYTES and not self._open and not self._ended:
            self._socket.abort()

    def _receive(self, data: bytes) -> None:
        opened: list[bytes] = []
        try:
            for begin in range(0, len(data), _RECORD_BYTES):
                self._incoming.write(data[begin : begin + _RECORD_BYTES])
                opened += self._take()
        except ssl.SSLError as exc:
            self._fail(exc)
        self._flush()
        carried = b"".join(opened)
        if len(data) > len(carried) and self._open:
            self._overhead(len(data) - len(carried))
        if carried:
            self._protocol.data_received(carried)
        if self._ended and self._open:
            self._end()

    def eof_received(self) -> bool:
        """The socket has ended on the other side, with a farewell of TLS or without."""
        if self._ended or not self._open:
            return False
        self._ended = True
        return bool(self._protocol.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        protocol, self._protocol = self._protocol, _NOBODY
        self._overhead = _nothing
        self._ended = True
        # Who came and went without a word, as a balancer's look whether the port is there, has failed at nothing.
        if self._came and not self._open:
            TLS_FAILED.inc()
        protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """The socket takes more again."""
        self._protocol.resume_writing()

    # -- called by the protocol --------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Seal bytes and send them. Before the handshake is through there is nobody to read them, so they go nowhere."""
        if not self._open or self._socket.is_closing():
            return
        try:
            if len(data) <= _RECORD_BYTES:
                self._tls.write(data)
                self._flush()
            else:
                self._socket.writelines(self._sealed(memoryview(data)))
        except ssl.SSLError:  # after a farewell there is nothing to be said
            return

    def writelines(self, list_of_data: Any) -> None:  # noqa: ANN401 - as the standard library has it
        """Write all of them as one."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Tell whether the socket can end on our side alone."""
        return self._socket.can_write_eof()

    def write_eof(self) -> None:
        """End our side; the other may go on."""
        self._say_farewell()
        self._socket.write_eof()

    def close(self) -> None:
        """End the connection once all is sent."""
        self._say_farewell()
        self._socket.close()

    def abort(self) -> None:
        """End the connection at once."""
        self._socket.abort()

    def is_closing(self) -> bool:
        """Tell whether the connection is ending."""
        return self._socket.is_closing()

    def pause_reading(self) -> None:
        """Hand on no more, but for what has come."""
        self._socket.pause_reading()

    def resume_reading(self) -> None:
        """Hand on what comes again."""
        self._socket.resume_reading()

    def is_reading(self) -> bool:
        """Tell whether what comes is handed on."""
        return self._socket.is_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Say how much may wait to be sent, sealed."""
        self._socket.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return how much may wait to be sent."""
        return self._socket.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """Return how much waits to be sent, sealed."""
        return self._socket.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - as the standard library has it
        """Return a fact of the connection."""
        own = {"ssl_object": self._tls, "sslcontext": self._tls.context}
        return own[name] if name in own else self._socket.get_extra_info(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return what stands above it."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have another protocol stand above it."""
        self._protocol = cast(asyncio.Protocol, protocol)

    # -- TLS ---------------------------------------------------------------------------------------------------------

    def _take(self) -> Iterator[bytes]:
        """Yield what can be opened; note where the other side says farewell.

        Raises:
            SSLError: when it is not TLS, or not ours.
        """
        try:
            if not self._open:
                self._tls.do_handshake()
                self._open = True
            while carried := self._tls.read(_RECORD_BYTES):
                yield carried
            self._ended = True
        except ssl.SSLWantReadError:
            return

    def _fail(self, exc: ssl.SSLError) -> None:
        """Say what is wrong, as far as the other side could understand it, and end our side.

        It is not closed: with unread bytes in, the kernel would reset the connection and take what was said with it.
        """
        self._ended = True
        if exc.reason in _PLAIN_HTTP and not self._open:
            self._outgoing.read()
            self._socket.write(_TO_PLAIN_HTTP)
        self._flush()
        if self._open or not self._socket.can_write_eof():
            self._socket.close()
        elif not self._socket.is_closing():
            self._socket.write_eof()

    def _end(self) -> None:
        """The other side has ended."""
        if not self._socket.is_closing() and not self._protocol.eof_received():
            self.close()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._socket.is_closing():
            self._socket.write(self._outgoing.read())

    def _sealed(self, data: memoryview) -> Iterator[bytes]:
        for begin in range(0, len(data), _RECORD_BYTES):
            self._tls.write(data[begin : begin + _RECORD_BYTES])
            yield self._outgoing.read()

    def _say_farewell(self) -> None:
        if self._open and not self._socket.is_closing():
            with suppress(ssl.SSLError):  # the other side's is still to come, or all is broken already
                self._tls.unwrap()
            self._flush()


def _nothing(_size: int) -> None:
    """Take note of nothing: in place of whoever is gone."""
