"""How the load generator speaks to a system: raw bytes for clients and for the producer, prepared here and written to files.

The generator only writes digits into them (scripts/load/dialect.h, producer.h, stamp.h): the user's number and the stamp. So
whatever a system packs its messages in, preparing it costs nothing while something is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

BODY_BYTES: Final = 128
"""Of a message's body, unless something else is wanted."""

_STAMP: Final = "#n=0000000000;at=00000000000000000000;"

_UPGRADE: Final = (
    "GET {path} HTTP/1.1\r\nHost: {{host}}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    # The key may be the same for all: it only proves to a client that the server has understood (RFC 6455, section 1.3).
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
)

Lane = Callable[[str, bool], Sequence[bytes]]
"""Takes a body (JSON text) and whether the message is transient; returns the publications to `user_name(0)`, of which each user
has one: more than one where users of several shards go different ways."""


def user_name(number: int) -> str:
    """Return the name of a user; all have the same length."""
    return f"u{number:07d}"


def body_text(size: int = BODY_BYTES) -> str:
    """Return a body of so many bytes: a JSON object with an empty stamp in it."""
    empty = f'{{"text":"{_STAMP}"}}'
    if size < len(empty):
        raise ValueError(f"a body has at least {len(empty)} bytes, and not {size}")
    return f'{{"text":"{_STAMP}{"x" * (size - len(empty))}"}}'


def stamped(body: str, number: int) -> str:
    """Return the body with a number, as if it had been sent long ago."""
    return body.replace("#n=0000000000;", f"#n={number:010d};")


def redis_command(*words: str | bytes) -> bytes:
    """Return a command as Redis takes it (RESP)."""
    encoded = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How clients and the producer are let in; `{token}` stands for a user's token and `{query}` for further parameters.

    Attributes:
        path: of the WebSocket.
        headers: of the request for it, whole lines.
        greeting: what a client answers to the server's first frame.
        welcome: what the frame begins with that lets it in; empty where the upgrade does.
        ping: a payload that asks for `pong`, where the system does not leave that to WebSocket.
        hello: what the producer says first, and waits for an answer to.
        protocol: how the producer is answered.
        lines: connections of the producer, where one would be the limit.
    """

    path: str
    headers: str = ""
    greeting: str = ""
    welcome: str = ""
    ping: str = ""
    pong: str = ""
    hello: bytes = b""
    protocol: Literal["redis", "nats", "http"] = "redis"
    lines: int = 1

    def write(self, folder: Path) -> None:
        """Write the files that the generator reads; only the owner may, since a hello may hold a password."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        files = {"request": _UPGRADE.format(path=self.path, headers=self.headers)}
        files |= {name: getattr(self, name) for name in ("greeting", "welcome", "ping", "pong")}
        for name, text in files.items():
            (folder / name).write_bytes(text.encode())
        (folder / "hello").write_bytes(self.hello)


PUSHWAY: Final = Dialect(
    path="/v1/connect{query}",
    headers="Sec-WebSocket-Protocol: pushway.v1\r\nAuthorization: Bearer {token}\r\n",
    welcome='{"type":"welcome"',
)
