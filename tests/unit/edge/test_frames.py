"""edge.frames: the bytes a client gets, read back by a parser that is not ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from edge.frames import QUIET_PING, Bye, Error, Pong, ServerFrame, Welcome, encode, ping_frame, text_frame


def _read(data: bytes) -> list[Frame]:
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
    client.receive_data(data)
    assert client.parser_exc is None
    return [event for event in client.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize(
    ("length", "header"), [(0, 2), (125, 2), (126, 4), (1_023, 4), (1_024, 4), (65_535, 4), (65_536, 10), (100_000, 10)]
)
def test_each_length_has_the_header_the_rfc_gives_it(length: int, header: int) -> None:
    """2, 4 or 10 bytes, and the shortest that does (RFC 6455, section 5.2)."""
    frame = text_frame(b"x" * length)
    assert len(frame) == header + length
    (read,) = _read(frame)
    assert (read.opcode, read.fin, bytes(read.data)) == (Opcode.TEXT, True, b"x" * length)


@pytest.mark.parametrize(("frame", "challenge"), [(QUIET_PING, b""), (ping_frame(b"7" * 19), b"7" * 19)])
def test_pings_are_the_protocols_own(frame: bytes, challenge: bytes) -> None:
    """With or without something to answer."""
    (read,) = _read(frame)
    assert (read.opcode, read.fin, bytes(read.data)) == (Opcode.PING, True, challenge)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_joined_frames_are_read_one_by_one(payloads: list[bytes]) -> None:
    """What is written in one go comes apart again."""
    assert [bytes(frame.data) for frame in _read(b"".join(map(text_frame, payloads)))] == payloads


@pytest.mark.parametrize(
    ("frame", "json_text"),
    [
        (
            Welcome("alice", "s1", "edge-1.k3f9", 1732262400123456, 7, 25),
            '{"type":"welcome","user":"alice","session":"s1","node":"edge-1.k3f9","seq":1732262400123456,"all":7,"heartbeat":25}',
        ),
        (Bye("draining", 1380), '{"type":"bye","reason":"draining","retry_after_ms":1380}'),
        (Error("bad_frame", "why"), '{"type":"error","code":"bad_frame","message":"why"}'),
        (Pong(), '{"type":"pong"}'),
    ],
)
def test_frames_read_as_the_protocol_says(frame: ServerFrame, json_text: str) -> None:
    """The JSON is that of the public protocol, member for member."""
    (read,) = _read(encode(frame))
    assert bytes(read.data).decode() == json_text
