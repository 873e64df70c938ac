"""edge.handshake: what comes with the request is read behind the answer to it."""

from __future__ import annotations

from websockets.frames import Frame, Opcode
from websockets.http11 import Request

from edge.handshake import Handshake
from edge.upgrade import PATH

REQUEST = (
    f"GET {PATH} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()


def test_frames_behind_a_request_wait_until_it_is_known() -> None:
    """Else a breach among them would have left OPEN before anybody has looked at the request, and the frames before it lost."""
    wire = Handshake(1_000)
    wire.receive_data(REQUEST + Frame(Opcode.TEXT, b"{}").serialize(mask=True) + b"no frame")
    (request,) = wire.events_received()
    assert isinstance(request, Request)
    wire.send_response(wire.answer(request))
    assert wire.state.name == "OPEN"
    wire.receive_data(b"")
    assert [event.data for event in wire.events_received() if isinstance(event, Frame)] == [b"{}"]
    assert wire.state.name == "CLOSING"
