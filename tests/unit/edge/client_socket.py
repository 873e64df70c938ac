"""The socket between a connection of an edge and a client, both in one process: it only keeps what is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from edge.connection import Connection


class Socket(asyncio.Transport):
    """The socket between one connection and a client, both in this process."""

    def __init__(self, connection: Connection, query: str = "") -> None:
        super().__init__()
        self.ended = ""
        self.reading = True
        self.waiting = 0
        self._connection = connection
        self._client = ClientProtocol(parse_uri(f"ws://localhost/v1/connect{query}"))
        connection.connection_made(self)

    # -- what a connection calls -------------------------------------------------------------------------------------

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever buffered."""

    def get_write_buffer_size(self) -> int:
        """Tell what a test says is."""
        return self.waiting

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Let the client read it, unless uvloop would refuse to write."""
        assert self.ended not in {"eof", "lost"}, data
        self._client.receive_data(bytes(data))
        assert self._client.parser_exc is None

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Tell where the client is."""
        return ("203.0.113.7", 4711) if name == "peername" else default

    def pause_reading(self) -> None:
        """What the client sends from now on waits in the kernel."""
        self.reading = False

    def resume_reading(self) -> None:
        """And is read from there."""
        self.reading = True

    def is_reading(self) -> bool:
        """Tell whether the connection still wants to read."""
        return self.reading

    def is_closing(self) -> bool:
        """Tell whether it was closed, as opposed to half-closed."""
        return self.ended in {"closed", "cut", "lost"}

    def can_write_eof(self) -> bool:
        """As TCP can."""
        return True

    def write_eof(self) -> None:
        """Note it."""
        self.ended = "eof"

    def close(self) -> None:
        """Note it."""
        self.ended = "closed"

    def abort(self) -> None:
        """Note it."""
        self.ended = "cut"

    # -- what a client does ------------------------------------------------------------------------------------------

    def connect(self, token: str) -> None:
        """Send the request."""
        request = self._client.connect()
        request.headers["Authorization"] = f"Bearer {token}"
        self._client.send_request(request)
        self.pump()

    def connect_in_a_frame(self, token: str, headers: Mapping[str, str]) -> None:
        """Send the request with headers, and the token behind it."""
        request = self._client.connect()
        for name, value in headers.items():
            request.headers[name] = value
        self._client.send_request(request)
        self.pump()
        self.say(f'{{"type":"connect","token":"{token}"}}')

    def connect_hastily(self, frame: bytes) -> None:
        """Send the request and a frame behind it in one piece, without waiting for the answer."""
        self._client.send_request(self._client.connect())
        self._connection.data_received(b"".join(self._client.data_to_send()) + frame)
        self.pump()

    def say(self, text: str) -> None:
        """Send a frame."""
        self._client.send_text(text.encode())
        self.pump()

    def pump(self) -> None:
        """Send what the client has to send."""
        for data in self._client.data_to_send():
            self._connection.data_received(data)

    def lose(self) -> None:
        """Have what the client has to send get nowhere."""
        self._client.data_to_send()

    def end(self) -> None:
        """Say that nothing more will be sent, without a close frame before; the socket is not gone yet."""
        self._connection.eof_received()

    def reset(self) -> None:
        """Be gone, without an EOF first."""
        self.ended = "lost"
        self._connection.connection_lost(ConnectionResetError())

    def frames(self) -> list[str]:
        """Return the text or close frames that came since the last call."""
        events = self._client.events_received()
        return [
            str(Frame(event.opcode, event.data)) if event.opcode > 2 else bytes(event.data).decode()
            for event in events
            if isinstance(event, Frame)
        ]

    @property
    def close_code(self) -> int | None:
        """The code that the edge closed with."""
        return None if self._client.close_rcvd is None else self._client.close_rcvd.code


def seqs(frames: list[str]) -> list[int]:
    """Return the seqs in message frames."""
    return [int(frame.partition('"seq":')[2].partition(",")[0]) for frame in frames if '"message"' in frame]


def masked(opcode: Opcode, data: bytes) -> bytes:
    """Return a client's frame."""
    return Frame(opcode, data).serialize(mask=True)
