"""What an edge sends: the JSON of its own frames, and the bytes that carry any frame.

A server's frames are not masked, and these are never fragmented, so that a text frame is a header of 2, 4 or 10 bytes and
the payload (RFC 6455 section 5.2). That makes the bytes the same for every session that gets the frame: they are built once.

Message frames come finished from collect and are not looked into.
"""

from __future__ import annotations

from typing import Final

import msgspec

_TEXT: Final = 0x81
"""FIN and opcode 1. No extension is negotiated, so the reserved bits are 0."""

_PING: Final = b"\x89"
"""FIN and opcode 9."""

_LENGTH_16: Final = bytes((_TEXT, 126))
_LENGTH_64: Final = bytes((_TEXT, 127))
_MAX_7: Final = 125
_MAX_16: Final = 0xFFFF


def _header(length: int) -> bytes:
    if length <= _MAX_7:
        return bytes((_TEXT, length))
    if length <= _MAX_16:
        return _LENGTH_16 + length.to_bytes(2, "big")
    return _LENGTH_64 + length.to_bytes(8, "big")


_USUAL: Final = 1024
_HEADERS: Final = tuple(map(_header, range(_USUAL)))
"""Of the lengths below `_USUAL`, which most messages have: some 40 KiB, for half of what a frame costs."""


def text_frame(payload: bytes) -> bytes:
    """Return the WebSocket text frame of a payload, which is UTF-8."""
    length = len(payload)
    return (_HEADERS[length] if length < _USUAL else _header(length)) + payload


def ping_frame(challenge: bytes) -> bytes:
    """Return the ping that is to be answered with the challenge, of 125 bytes at most."""
    return _PING + bytes((len(challenge),)) + challenge


QUIET_PING: Final = ping_frame(b"")
"""For any connection that has been quiet."""

_QUIET_PONG: Final = b"\x8a\x80"
"""FIN and opcode 10; masked, as all is that a client sends, and without a payload."""
_QUIET_PONG_BYTES: Final = 6
"""With the mask."""


def is_quiet_pong(data: bytes) -> bool:
    """Tell whether this is an answer to the quiet ping, where a frame begins with it and nothing has come behind it."""
    return len(data) == _QUIET_PONG_BYTES and data.startswith(_QUIET_PONG)


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """The session is live: what has a seq above `seq`, of what goes to everybody above `all`, comes from here on.

    `heartbeat` is in seconds.
    """

    user: str
    session: str
    node: str
    seq: int
    all: int
    heartbeat: float


class CaughtUp(msgspec.Struct, frozen=True, tag="caught_up"):
    """What the client had missed of `to` since its cursor has been sent, up to `seq`."""

    to: str
    seq: int


class Lost(msgspec.Struct, frozen=True, tag="lost"):
    """What `to` was sent with a seq above `since` and up to `until` may be retained no longer."""

    to: str
    since: int = msgspec.field(name="from")
    until: int


class Subscribed(msgspec.Struct, frozen=True, tag="subscribed"):
    """The session hears of the topic: whatever has a seq above `seq`, its head, comes from here on."""

    topic: str
    seq: int


class Unsubscribed(msgspec.Struct, frozen=True, tag="unsubscribed"):
    """The session hears of the topic no more."""

    topic: str


class Members(msgspec.Struct, frozen=True, tag="members"):
    """Who has subscribed to the topic, for who asked with `presence`: replaces what the client knew."""

    topic: str
    users: list[str]


class Joined(msgspec.Struct, frozen=True, tag="joined"):
    """A user has subscribed to the topic, with the first session of hers."""

    topic: str
    user: str


class Left(msgspec.Struct, frozen=True, tag="left"):
    """A user hears of the topic no more, in any session."""

    topic: str
    user: str


class Expiring(msgspec.Struct, frozen=True, tag="expiring"):
    """The token is good for so many more seconds, and the session ends with it."""

    in_s: float


class Extended(msgspec.Struct, frozen=True, tag="extended"):
    """The client's newer token holds from here on, for so many seconds."""

    in_s: float


class Bye(msgspec.Struct, frozen=True, tag="bye"):
    """The edge is about to close the connection; come back after `retry_after_ms`."""

    reason: str
    retry_after_ms: int


class Error(msgspec.Struct, frozen=True, tag="error"):
    """A frame or wish of the client was not carried out; of the codes, only `bad_frame` is followed by a close frame."""

    code: str
    message: str


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """The answer to a client's `ping`, for clients that cannot send the protocol's own."""


ServerFrame = (
    Welcome | CaughtUp | Lost | Subscribed | Unsubscribed | Members | Joined | Left | Expiring | Extended | Bye | Error | Pong
)

_encode: Final = msgspec.json.Encoder().encode


def encode(frame: ServerFrame) -> bytes:
    """Return the text frame of one of the edge's own frames, ready for the socket."""
    return text_frame(_encode(frame))
