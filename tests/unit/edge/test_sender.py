"""What a client is sent, and when it is too slow for it."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from edge.closes import Close, Closing
from edge.sender import Sender


class Wire:
    """A transport that keeps each write, and says that so much waits as a test wants."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.waiting = 0

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.writes.append(data)

    def get_write_buffer_size(self) -> int:
        """Return what waits."""
        return self.waiting


class Client(Sender):
    """One that may have 100 bytes wait for it."""

    __slots__ = ("closed",)

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._transport = cast(asyncio.Transport, wire)
        self._open = True
        self.closed: list[Closing] = []

    @property
    def _backlog_max_bytes(self) -> int:
        return 100

    def close(self, close: Closing, detail: str = "") -> None:
        """Close at once."""
        del detail
        self.closed.append(close)
        self._open = False


@pytest.mark.parametrize("frames", [[b"one"], [b"one", b"two", b"three"]])
def test_a_chunk_is_one_write(frames: list[bytes]) -> None:
    """However many frames it has; they are counted, and none is left for the next."""
    client = Client(wire := Wire())
    client.out += frames
    assert client.flush() == len(frames)
    assert wire.writes == [b"".join(frames)]
    assert client.out == []


def test_who_is_closed_is_sent_nothing() -> None:
    """What was put out before is dropped: a frame behind the close would break the protocol."""
    client = Client(wire := Wire())
    client.out.append(b"late")
    client.close(Close.DRAINING)
    assert client.gone
    assert client.flush() == 1
    assert (wire.writes, client.out) == ([], [])


def test_a_slow_client_is_closed_when_more_waits_than_may() -> None:
    """Looked at with each write while much waits, and with none once the client has read."""
    client = Client(wire := Wire())
    wire.waiting = 100
    client.pause_writing()
    client.write(b"still")
    client.resume_writing()
    wire.waiting = 101
    client.write(b"not looked at")
    assert client.closed == []
    client.pause_writing()
    assert client.closed == [Close.SLOW_CONSUMER]
