"""edge.usual_request: takes what clients send, and nothing that edge.handshake would not take and answer alike."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.http11 import Request

from edge.handshake import Handshake
from edge.upgrade import PATH, read_bearer, read_upgrade
from edge.usual_request import read

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
LINE = f"GET {PATH} HTTP/1.1"
HEADERS = ("Host: edge:8002", "Upgrade: websocket", "Connection: Upgrade", KEY, "Sec-WebSocket-Version: 13")
LINES = (
    LINE,
    f"GET {PATH}?device=phone&topics=a,b HTTP/1.1",
    f"GET {PATH}?a=%ff&a=&b HTTP/1.1",
    f"GET {PATH}?# HTTP/1.1",
    f"GET {PATH}/ HTTP/1.1",
    f"GET {PATH}x HTTP/1.1",
    f"GET http://edge:8002{PATH} HTTP/1.1",
    f"GET {PATH} HTTP/1.0",
    f"GET  {PATH} HTTP/1.1",
    f"POST {PATH} HTTP/1.1",
    f"get {PATH} HTTP/1.1",
    "",
)
MORE = (
    "Authorization: Bearer a.b.c",
    "authorization: bearer  a",
    "Authorization: Basic a",
    "Origin: http://edge",
    "Origin: null",
    "Sec-WebSocket-Protocol: pushway.v1",
    "Sec-WebSocket-Protocol: other, pushway.v1",
    "Sec-WebSocket-Protocol: other",
    "sec-websocket-protocol: pushway.v1,",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    "Sec-WebSocket-Extensions: ;",
    "Connection: keep-alive, Upgrade",
    "Connection: close",
    "Upgrade: WebSocket",
    "Upgrade: h2c",
    "Host: other",
    "Host:",
    "host: edge:8002",
    "Host : edge",
    "Sec-WebSocket-Version: 8",
    "Sec-WebSocket-Key: AA==",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAA===",
    "Content-Length: 0",
    "Content-Length: 3",
    "Transfer-Encoding: chunked",
    "X-Forwarded-For: 203.0.113.7",
    "X-Padded:  a ",
    "X-Tab:\ta",
    "X-Latin: \xe9",
    "X-Null: \x00",
    "X_Under: a",
    "X-Empty: ",
    " folded: a",
    "no colon",
    ": no name",
    "X-Bare: a\rb",
    "X-Line: a\nHost: b",
    "X-Long: " + "a" * 8_300,
    "",
)
DATE = re.compile(rb"\r\nDate: [^\r]+")


def whole(*lines: str, end: str = "\r\n\r\n") -> bytes:
    """Return a request of these lines."""
    return ("\r\n".join(lines) + end).encode("latin-1")


def is_usual(data: bytes) -> bool:
    """Tell whether a request is read at once, in which case websockets reads the same, and is answered in the same words."""
    wire, at_once = Handshake(1_000), Handshake(1_000)
    usual = at_once.read_at_once(data)
    if usual is None:
        return False
    wire.receive_data(data)
    (request,) = wire.events_received()
    assert isinstance(request, Request)
    for one, asked in ((wire, request), (at_once, usual)):
        one.reply(asked)
        assert (one.state.name, one.failure, bytes(one.reader.buffer)) == ("OPEN", None, b"")
    (ordinary,), (short,) = wire.data_to_send(), at_once.data_to_send()
    assert DATE.sub(b"", short) == DATE.sub(b"", ordinary)
    assert len(short) == len(ordinary)
    assert read_upgrade(usual, at_once.offered) == read_upgrade(request, wire.offered)
    wanted = ("Origin", "X-Forwarded-For", "Cookie", "Host")
    assert read_bearer(usual, "", wanted) == read_bearer(request, "", wanted)
    return True


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("Authorization: Bearer a.b.c", "Sec-WebSocket-Protocol: pushway.v1"),
        (
            "Origin: https://edge",
            "Sec-WebSocket-Extensions: permessage-deflate",
            "Cookie: a=b; c",
            "User-Agent: Mozilla/5.0 (X11)",
        ),
    ],
)
def test_what_clients_send_is_usual(more: tuple[str, ...]) -> None:
    """Whoever connects costs the edge the short way."""
    assert is_usual(whole(LINE, *HEADERS, *more))
    assert is_usual(whole(LINES[1], *more, *HEADERS))
    assert is_usual(whole(LINE, "Connection: keep-alive, Upgrade", *(one for one in HEADERS if "Connection" not in one), *more))


@pytest.mark.parametrize("line", LINES[3:])
def test_a_rare_address_is_left_to_websockets(line: str) -> None:
    """What two readers could take for two things is nothing for the short way."""
    assert read(whole(line, *HEADERS)) is None


@pytest.mark.parametrize("missing", HEADERS)
def test_nothing_that_is_required_may_be_missing(missing: str) -> None:
    """Each of the five has its own answer."""
    assert read(whole(LINE, *(one for one in HEADERS if one != missing))) is None


@given(
    st.sampled_from(LINES),
    st.lists(st.sampled_from(HEADERS + MORE), max_size=10),
    st.sampled_from(("\r\n\r\n", "\n\n", "\r\n")),
)
def test_what_is_usual_is_what_websockets_takes(line: str, headers: list[str], end: str) -> None:
    """Whatever stands in a request, and how often."""
    is_usual(whole(line, *HEADERS, *headers, end=end))
    is_usual(whole(line, *headers, end=end))


@given(st.integers(0, 180), st.integers(-1, 255), st.booleans())
def test_no_byte_makes_a_difference(at: int, byte: int, instead: bool) -> None:
    """A byte more, less or another one: both read the same, or the short way is not taken."""
    data = whole(LINES[1], *HEADERS, "Origin: http://edge")
    is_usual(data[:at] + (b"" if byte < 0 else bytes([byte])) + data[at + instead :])


def test_only_the_first_bytes_can_be_a_usual_request() -> None:
    """A line that came before belongs to the request, and would be another request to whoever read both."""
    wire = Handshake(1_000)
    assert wire.read_at_once(b"GET / HTTP/1.1\r\n") is None
    wire.receive_data(b"GET / HTTP/1.1\r\n")
    assert wire.read_at_once(whole(LINE, *HEADERS)) is None


def test_bytes_behind_the_request_are_left_to_websockets() -> None:
    """Frames may come with it."""
    assert read(whole(LINE, *HEADERS) + b"\x81\x80\x00\x00\x00\x00") is None
