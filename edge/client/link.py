"""One connection to an edge, and whether the other side is still there.

A TCP connection whose other end has vanished (a pulled cable, a lost NAT entry, a laptop that slept) looks like one on which
nothing happens. So after as much silence as the edge itself allows, the client pings, and without an answer it goes. It does
so only while it waits for a frame: an application that takes its time over a message is no reason to part, and the answer may
stand behind frames that were not asked for yet. That is why the keepalive of `websockets`, which knows no such difference, is
off.

Nothing is read ahead without bound: with 16 frames unread the socket is not read any further, and TCP slows the edge down.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ssl import SSLContext
from typing import Final

import anyio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

SUBPROTOCOL: Final = Subprotocol("pushway.v1")

OPEN_TIMEOUT_S: Final = 10.0
WELCOME_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 2.0
ANSWER_TIMEOUT_S: Final = 10.0
"""How long a ping may go unanswered, and a frame unsent; less where the edge's heartbeat is shorter. Centrifugo's clients
wait as long."""

UNREAD_MAX: Final = 16
"""Frames that may wait unread; the default of `websockets`."""

FRAME_MAX_BYTES: Final = 16 * 1024 * 1024
"""Longest frame taken. Content is at most 16,000,000 bytes of JSON; what stands around it fits into the rest many times."""


class Silent(OSError):
    """The other side has vanished without a word."""


class UnaskedAnswer(OSError):
    """Who is there has waited for a request no longer."""


async def open_link(address: str, *, token: str | None, tls: SSLContext | None, proxy: str | None) -> Link:
    """Connect.

    Args:
        address: the edge's, with what is to be asked for in it.
        token: goes in the header, unless None.
        tls: the context for wss://; None is the machine's trust store.
        proxy: URL of an HTTP proxy.

    Raises:
        OSError: when nobody can be reached.
        websockets.exceptions.InvalidHandshake: when who is there is no edge.
    """
    opening = connect(
        address,
        subprotocols=[SUBPROTOCOL],
        additional_headers=None if token is None else {"Authorization": f"Bearer {token}"},
        ssl=tls if address.startswith("wss:") else None,
        proxy=proxy,
        compression=None,
        open_timeout=OPEN_TIMEOUT_S,
        close_timeout=CLOSE_TIMEOUT_S,
        ping_interval=None,
        max_size=FRAME_MAX_BYTES,
        max_queue=UNREAD_MAX,
    )
    try:
        return Link(await opening)
    except AssertionError as exc:
        # A balancer gives up on whoever is slow to ask (408). websockets 17 asserts that nobody does so before it has asked.
        raise UnaskedAnswer("an answer came, and the end, before the request was sent") from exc


class Link:
    """An open connection.

    Attributes:
        opened_at_s: when the welcome came, by the monotonic clock; None before.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self.opened_at_s: float | None = None
        self._connection = connection
        self._quiet_s = math.inf
        self._answer_s = ANSWER_TIMEOUT_S
        # When to look whether the other side is there; before the welcome, when to stop waiting for it.
        self._look_at_s = time.monotonic() + WELCOME_TIMEOUT_S
        self._pong: asyncio.Future[float] | None = None

    def welcomed(self, heartbeat_s: float) -> None:
        """Note that the session is open, and how long the edge is silent at most."""
        self.opened_at_s = time.monotonic()
        self._quiet_s = heartbeat_s
        self._answer_s = min(heartbeat_s, ANSWER_TIMEOUT_S)
        self._look_at_s = self.opened_at_s + heartbeat_s

    async def receive(self, wake_at_s: float) -> str | bytes | None:
        """Return the next frame, or None when the monotonic clock says `wake_at_s` before it comes. Cancelling loses none.

        Raises:
            websockets.exceptions.ConnectionClosed: when the connection has ended.
            Silent: when the other side has vanished, or has sent no welcome in time.
        """
        while True:
            with anyio.move_on_after(min(wake_at_s, self._look_at_s) - time.monotonic()):
                frame = await self._connection.recv()
                self._heard()
                return frame
            now_s = time.monotonic()
            if now_s >= self._look_at_s:
                await self._look(now_s)
            elif now_s >= wake_at_s:
                return None

    async def send(self, frame: str) -> bool:
        """Send a frame, and tell whether the connection was still open.

        Where it was not, go on receiving: what came before its end is still there, and `receive` says how it ended.

        Raises:
            Silent: when the other side takes nothing any more.
        """
        try:
            with self._in_time():
                await self._connection.send(frame)
        except ConnectionClosed:
            return False
        return True

    async def close(self) -> None:
        """Say goodbye, and wait for no longer than `CLOSE_TIMEOUT_S`."""
        with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
            await self._connection.close()
        self._connection.transport.abort()

    def _heard(self) -> None:
        if self.opened_at_s is not None:
            self._look_at_s = time.monotonic() + self._quiet_s
            self._pong = None

    async def _look(self, now_s: float) -> None:
        """It has been quiet for too long: ping, or see what has become of the last ping."""
        if self.opened_at_s is None:
            raise Silent(f"no welcome came within {WELCOME_TIMEOUT_S:g} s")
        if self._pong is None:
            with self._in_time():
                self._pong = asyncio.ensure_future(await self._connection.ping())
            self._look_at_s = now_s + self._answer_s
        elif self._pong.done():
            self._heard()
        else:
            raise Silent(f"a ping was not answered within {self._answer_s:g} s")

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        try:
            with anyio.fail_after(self._answer_s):
                yield
        except TimeoutError as exc:
            raise Silent(f"nothing could be sent for {self._answer_s:g} s") from exc
