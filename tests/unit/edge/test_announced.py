"""edge.announced: the first bytes of a socket are a balancer's, all others the client's, however they are cut."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.announced import Announced
from tests.unit.edge.test_preface import BAD, GOOD


class Client(asyncio.Protocol):
    """A connection that notes what it is told."""

    def __init__(self, *, is_through_proxy: bool = True) -> None:
        self.is_through_proxy = is_through_proxy
        self.told: list[object] = []
        self.got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note it."""
        self.transport = cast(Socket, transport)
        self.told.append("made")

    def announced(self, source: str | None) -> None:
        """Note it."""
        self.told.append(source)

    def unannounced(self) -> None:
        """Note it, and cut the connection."""
        self.told.append("unannounced")
        self.transport.closing = True

    def data_received(self, data: bytes) -> None:
        """Keep it."""
        assert data
        self.got += data

    def eof_received(self) -> bool:
        """Note it."""
        self.told.append("eof")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Note it."""
        self.told.append(exc)


class Socket(asyncio.Transport):
    """A socket that hands on what comes to whoever is its protocol."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.closing = False
        self.protocol: asyncio.BaseProtocol = Announced(client, client)
        self.protocol.connection_made(self)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have it another one."""
        self.protocol = protocol

    def is_closing(self) -> bool:
        """Tell whether it was cut."""
        return self.closing

    def receive(self, *pieces: bytes) -> None:
        """Have bytes come."""
        for piece in pieces:
            cast(asyncio.Protocol, self.protocol).data_received(piece)


@pytest.mark.parametrize(("said", "source"), GOOD)
@given(cuts=st.lists(st.integers(0, 60), max_size=5), behind=st.binary(max_size=20))
def test_what_is_behind_is_the_clients(said: bytes, source: str | None, cuts: list[int], behind: bytes) -> None:
    """All of it and nothing else, once it is told whose connection it is; this one is then out of the way."""
    client = Client()
    socket = Socket(client)
    whole, at = said + behind, [0, *sorted(cuts)]
    pieces = [whole[begin:end] for begin, end in zip(at, [*at[1:], None], strict=True)]
    socket.receive(*filter(None, pieces))
    assert client.told == ["made", source]
    assert client.got == behind
    assert socket.protocol is client


@pytest.mark.parametrize("said", BAD)
def test_what_is_no_announcement_ends_it(said: bytes) -> None:
    """Nothing of it reaches the client's connection, nor what comes later."""
    client = Client()
    Socket(client).receive(said, b"GET / HTTP/1.1\r\n")
    assert client.told == ["made", "unannounced"]
    assert not client.got


def test_who_is_no_balancer_is_not_listened_to() -> None:
    """All that comes is the client's, an announcement of its own too."""
    client = Client(is_through_proxy=False)
    socket = Socket(client)
    assert socket.protocol is client
    said, _ = GOOD[0]
    socket.receive(said)
    assert client.got == said


def test_the_end_is_told() -> None:
    """Of one that announces nothing, as a check whether the port is open."""
    client = Client()
    socket = Socket(client)
    protocol = cast(asyncio.Protocol, socket.protocol)
    assert not protocol.eof_received()
    protocol.connection_lost(None)
    assert client.told == ["made", "eof", None]
