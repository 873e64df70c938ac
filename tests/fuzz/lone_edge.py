"""One connection without an edge around it: what it writes is kept, and its session only remembers what it was told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from websockets.http11 import Request

from edge.connection import Connection
from edge.host import Host
from edge.session import Session
from edge.upgrade import Upgrade
from router.settings import Settings

FRAME_MAX_BYTES: Final = 200
"""Small, so that inputs reach it."""

SETTINGS: Final = Settings(frame_max_bytes=FRAME_MAX_BYTES, frames_s_max=0, bytes_s_max=0)


class Kept(asyncio.Transport):
    """A transport that keeps what is written.

    Attributes:
        sent: that.
        ended: nothing may be written any more.
        closed: nor read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.ended = self.closed = False
        self._reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Tell where the client is."""
        return ("203.0.113.7", 4711) if name == "peername" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it; uvloop would refuse to write behind the end."""
        assert not self.ended, data
        self.sent += data

    def can_write_eof(self) -> bool:
        """As TCP can."""
        return True

    def write_eof(self) -> None:
        """Note the end."""
        assert not self.ended
        self.ended = True

    def is_closing(self) -> bool:
        """Tell whether it is closed: what has only said its end is not."""
        return self.closed

    def pause_reading(self) -> None:
        """What the client sends from now on waits in the kernel."""
        self._reading = False

    def resume_reading(self) -> None:
        """What the client sends comes again."""
        self._reading = True

    def is_reading(self) -> bool:
        """Tell whether what the client sends comes."""
        return self._reading

    def get_write_buffer_size(self) -> int:
        """Tell that nothing waits."""
        return 0

    def close(self) -> None:
        """Note the end."""
        self.ended = self.closed = True

    def abort(self) -> None:
        """Note the end."""
        self.ended = self.closed = True


class _Quiet:
    """Stands in for what a connection calls and nobody looks at: every method does nothing, and returns None."""

    settings = SETTINGS
    node = "edge-1.k3f9"

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever is asked for
        return self if name in {"gate", "proxies"} else lambda *_args: None


class Listener(_Quiet):
    """Stands in for a session: remembers, and asks for nothing.

    Attributes:
        upgrades: what requests said.
        texts: text messages, whole.
        binaries: how many binary frames there were.
    """

    def __init__(self) -> None:
        self.upgrades: list[Upgrade] = []
        self.texts: list[bytes] = []
        self.binaries = 0

    def upgraded(self, upgrade: Upgrade) -> tuple[()]:
        """Remember it."""
        self.upgrades.append(upgrade)
        return ()

    def text(self, data: bytes) -> tuple[()]:
        """Remember it."""
        self.texts.append(data)
        return ()

    def binary(self) -> tuple[()]:
        """Count it."""
        self.binaries += 1
        return ()

    def left(self) -> tuple[()]:
        """There is nothing to leave."""
        return ()


class LoneHost(_Quiet):
    """Stands in for the edge around a connection.

    Attributes:
        requests: those that were answered with 101.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []

    @property
    def turns(self) -> LoneHost:
        """Whose turn it is."""
        return self

    def take(self, act: Callable[[], None]) -> bool:
        """It is everybody's turn at once."""
        act()
        return True

    def requested(self, _connection: Connection, request: Request) -> None:
        """Remember it."""
        self.requests.append(request)


class Lone:
    """A connection, what it wrote, and what its session heard.

    Args:
        parts: what the client sends, as it comes.
    """

    def __init__(self, parts: Iterable[bytes] = ()) -> None:
        self.heard = Listener()
        self.host = LoneHost()
        self.transport = Kept()
        self.connection = Connection(cast(Host, self.host))
        self.connection.session = cast(Session, self.heard)
        self.connection.connection_made(self.transport)
        self.waiting_max_bytes = 0
        for part in parts:
            self.receive(part)

    @property
    def sent(self) -> bytes:
        """What it wrote."""
        return bytes(self.transport.sent)

    def receive(self, data: bytes) -> None:
        """Have it receive bytes, if it still reads, and remember how many it kept at most."""
        if not self.transport.is_reading():
            return
        self.connection.data_received(data)
        wire = self.connection._wire
        self.waiting_max_bytes = max(self.waiting_max_bytes, len(wire.reader.buffer))
        assert not wire.events
        assert not wire.writes

    def end(self) -> None:
        """Have the client hang up."""
        if not self.transport.ended:
            self.connection.eof_received()
        self.connection.connection_lost(None)
