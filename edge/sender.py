"""The sending side of a client's socket: finished frames in, one write a chunk out, and what waits when the client is slow.

It is all that the hot path touches of a connection (`edge.delivery`, `edge.feed`); `edge.connection` is built on it.

It decides nothing but when a client is too slow, and knows neither the protocol nor the session.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod

from edge.closes import Close, Closing
from edge.liveness import NEVER


class Sender(asyncio.Protocol, ABC):
    """Writes frames to a client.

    Attributes:
        out: message frames of the chunk in hand.
    """

    __slots__ = ("_choked_at_s", "_open", "_transport", "out")

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        # What the protocol's state says, for the hot path: the protocol's own attributes are many and far apart in memory.
        self._open = False
        # Since when more waits than may for long; NEVER while that is not so.
        self._choked_at_s = NEVER
        self.out: list[bytes] = []

    @property
    def backlog_bytes(self) -> int:
        """How much waits in this process to be sent."""
        return self._transport.get_write_buffer_size()

    @property
    def gone(self) -> bool:
        """Whether nothing can be sent any more."""
        return not self._open

    def flush(self) -> int:
        """Write the frames in `out` in one go, and return how many those were."""
        count, data = len(self.out), b"".join(self.out)
        self.out.clear()
        self.write(data)
        return count

    def write(self, data: bytes) -> None:
        """Write frames, unless the closing handshake has begun."""
        if self._open:
            self._transport.write(data)
            if self._choked_at_s is not NEVER:
                self._mind_backlog()

    def pause_writing(self) -> None:
        """More than `send_buffer_soft_bytes` wait for this client, after an attempt to send them."""
        self._choked_at_s = time.monotonic()
        self._mind_backlog()

    def resume_writing(self) -> None:
        """It has taken most of that."""
        self._choked_at_s = NEVER

    def _mind_backlog(self) -> None:
        if self.backlog_bytes > self._backlog_max_bytes:
            self.close(Close.SLOW_CONSUMER)

    @property
    @abstractmethod
    def _backlog_max_bytes(self) -> int:
        """How much may wait at most."""

    @abstractmethod
    def close(self, close: Closing, detail: str = "") -> None:
        """Begin the closing handshake."""
