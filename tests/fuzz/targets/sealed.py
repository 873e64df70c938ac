"""TLS in front of an edge: what is above it gets what the client sent, or a beginning of that, whatever is done to the bytes.

Choices: whether there is a client at all, or any bytes in its place; how its bytes are cut; what it says; and what is done to
the bytes on their way.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from functools import cache
from typing import Final

import trustme

from router.crowd import Turns
from router.tls.sealed import Sealed
from tests.fuzz.inputs import Choices, cut
from tests.fuzz.lone_edge import Kept

_NAME: Final = "edge.test"
_RECORD_BYTES: Final = 16_384
_SAYS_MAX: Final = 6

SEEDS: Final = (
    b"\x00\x00GET / HTTP/1.1\r\n\r\n",
    b"\x00\x01\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    b"\x00\x02\x16\x03\x01\xff\xff" + b"\x00" * 300,
    b"\x00\x03\x15\x03\x01\x00\x02\x02\x28",
    b"\x00\x04\x80\x2e\x01\x00\x02",
    b"\x01\x00\x05hello\x05world",
    b"\x01\x02\x05hello\x00",
    b"\x03\x03\x05hello\x05world\x00\x02\x40\x01",
    b"\x05\x04\x05hello\x05world",
    b"\x07\x05\x05hello\x05world\x00\x01\x04\x80\x01\x80\x01",
    b"\x09\x01\x05hello\x05world",
)


class _Above(asyncio.Protocol):
    """Remembers what it is told, and answers whatever it gets."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.ends = 0
        self.lost = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert data
        assert not self.ends
        self.got += data
        self._transport.write(b"answer")

    def eof_received(self) -> bool:
        self.ends += 1
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost += 1


@cache
def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return those of an edge and of a client that trusts it."""
    authority = trustme.CA()
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert(_NAME).configure_cert(ours)
    authority.configure_trust(theirs)
    return ours, theirs


class _Client:
    """A client's TLS, with its bytes at hand."""

    def __init__(self) -> None:
        self.incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = _contexts()[1].wrap_bio(self.incoming, self._outgoing, server_hostname=_NAME)

    def shake(self) -> bytes:
        """Go on with the handshake, and return what is to be sent."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._outgoing.read()

    def say(self, data: bytes) -> bytes:
        """Return bytes sealed."""
        self._tls.write(data)
        return self._outgoing.read()

    def leave(self) -> bytes:
        """Return a farewell."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        return self._outgoing.read()


def run(data: bytes) -> None:
    """Connect, be it a client or not, and let go."""
    choices = Choices(data)
    kind, seed = choices.byte(), choices.byte()
    above, socket = _Above(), Kept()
    sealed = Sealed(above, _contexts()[0], Turns(lambda call: call()))
    sealed.connection_made(socket)
    if kind & 1:
        _talk(choices, kind, seed, sealed, above, socket)
    else:
        raw = choices.rest()
        _send(sealed, raw, seed)
        assert not above.got
        assert not socket.sent or socket.sent.startswith((b"HTTP/1.1 400 ", b"\x15\x03", b"\x16\x03"))
    if not socket.closed and kind & 8:
        sealed.eof_received()
    sealed.connection_lost(None)
    sealed.data_received(b"late")
    assert above.lost == 1
    assert above.ends <= 1


def _talk(choices: Choices, kind: int, seed: int, sealed: Sealed, above: _Above, socket: Kept) -> None:
    """Shake hands, and say some things, of which some bytes may be changed on their way."""
    client, clear, wire = _Client(), bytearray(), bytearray()
    for _ in range(2):
        _send(sealed, client.shake(), seed)
        client.incoming.write(bytes(socket.sent))
        socket.sent.clear()
    _send(sealed, client.shake(), seed)
    for _ in range(_SAYS_MAX):
        if said := choices.chunk():
            clear += said
            wire += client.say(said)
    if kind & 4:
        wire += client.leave()
    is_whole = True
    while kind & 2 and choices and wire:
        at = choices.number() % len(wire)
        change = choices.byte()
        wire[at : at + change % 3] = bytes((change,)) * (change >> 6)
        is_whole = False
    _send(sealed, bytes(wire), seed)
    assert bytes(clear).startswith(above.got)
    assert not is_whole or above.got == clear
    assert not (is_whole and kind & 4) or above.ends == 1


def _send(sealed: Sealed, data: bytes, seed: int) -> None:
    for part in cut(data, seed):
        sealed.data_received(part)
        assert sealed._incoming.pending <= _RECORD_BYTES + 1_000
