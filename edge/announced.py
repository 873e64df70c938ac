"""A connection that a balancer announces by the PROXY protocol, until it has: then the one above takes its place.

    socket ─▶ Announced ─▶ (TLS) ─▶ Connection        its first bytes
    socket ─────────────▶ (TLS) ─▶ Connection        from then on

The connection above is told at once, so it counts and its time runs: who announces nothing in `connect_timeout_s` is cut off.
No task and no timer belongs to this, and nothing of it is left at rest.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from edge.preface import Unannounced, read_preface


class Awaiting(Protocol):
    """A connection that is to be told whose it is; see `edge.connection`."""

    @property
    def is_through_proxy(self) -> bool:
        """Whether a trusted balancer is at the other end."""

    def announced(self, source: str | None) -> None:
        """The balancer has said whose connection it is; None where it is its own."""

    def unannounced(self) -> None:
        """It has said something else: the connection is over."""


class Announced(asyncio.Protocol):
    """The first protocol of a socket.

    Args:
        above: what the bytes behind the announcement are for.
        connection: who is told whose connection it is, above that or the same.
    """

    __slots__ = ("_above", "_connection", "_said", "_transport")

    def __init__(self, above: asyncio.Protocol, connection: Awaiting) -> None:
        self._above = above
        self._connection = connection
        self._said = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A socket is there. Whoever is no trusted balancer is not listened to here."""
        self._transport = cast(asyncio.Transport, transport)
        self._above.connection_made(transport)
        if not self._connection.is_through_proxy:
            self._transport.set_protocol(self._above)

    def data_received(self, data: bytes) -> None:
        """Bytes came: some of the announcement, or all of it and what is behind it."""
        if self._transport.is_closing():
            return
        self._said += data
        try:
            preface = read_preface(self._said)
        except Unannounced:
            self._connection.unannounced()
            return
        if preface is not None:
            self._transport.set_protocol(self._above)
            self._connection.announced(preface.source)
            if len(self._said) > preface.size:
                self._above.data_received(self._said[preface.size :])

    def eof_received(self) -> bool:
        """The balancer has ended its side."""
        return bool(self._above.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._above.connection_lost(exc)
