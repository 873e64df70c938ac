"""Where an attacker would lead an edge: a trap that nobody is to ask, and a service that answers questions with ways there.

Both run in a thread, for as long as the stand stands.
"""

from __future__ import annotations

import asyncio
import json
import time
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import cycle
from typing import Final

HOST: Final = "127.0.0.1"
HONEST: Final = "honest-"
"""How the names of those begin whom the service judges well."""

_TTL_S: Final = 3_600
_PIECE: Final = b"x" * 65_536
_PIECES: Final = 160

_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def _redirect(status: int, url: str) -> bytes:
    return f"HTTP/1.1 {status} Elsewhere\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n".encode()


def _whole(body: bytes, more: bytes = b"") -> bytes:
    return _OK + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


class Lures:
    """The trap and the service.

    Attributes:
        trap_url: of the trap.
        service_url: of the service; what `auth_callback_url` is set to.
        visits: how often somebody came to the trap.
        answered: how many questions of attackers the service has answered.
    """

    def __init__(self) -> None:
        self.trap_url = self.service_url = ""
        self.visits = 0
        self.answered: Counter[str] = Counter()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Serve both."""
        trap = await asyncio.start_server(self._spring, HOST)
        service = await asyncio.start_server(self._serve, HOST)
        self.trap_url, self.service_url = (f"http://{HOST}:{one.sockets[0].getsockname()[1]}/" for one in (trap, service))
        self._ways = cycle(self._lures().items())
        try:
            yield
        finally:
            trap.close()
            service.close()

    async def _spring(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
                user = _user(json.loads(await reader.readexactly(size))["token"])
                if user.startswith(HONEST):
                    good = {"user": user, "expires_at": time.time() + _TTL_S, "topics": ["*"]}
                    writer.write(_whole(json.dumps(good).encode()))
                else:
                    await self._lure(writer)
        writer.close()

    async def _lure(self, writer: asyncio.StreamWriter) -> None:
        what, said = next(self._ways)
        self.answered[what] += 1
        writer.write(said)
        for _ in range(_PIECES if said.endswith(b"[") else 0):
            await writer.drain()
            writer.write(_PIECE)

    def _lures(self) -> dict[str, bytes]:
        """Return answers that lead elsewhere, or are more than an answer."""
        return {
            **{f"a {status}": _redirect(status, self.trap_url) for status in (301, 302, 303, 307, 308)},
            "a 200 with a way": _whole(b"{}", b"Location: %s\r\nRefresh: 0;url=%s\r\n" % ((self.trap_url.encode(),) * 2)),
            "an id that is none": _whole(b'{"user":"a\\nb","expires_at":9999999999}'),
            "what would unpack": _whole(b"\x1f\x8b" + bytes(1_000), b"Content-Encoding: gzip\r\n"),
            "a proxy": b"HTTP/1.1 305 Use Proxy\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % self.trap_url.encode(),
            "what does not end": _OK + b"Content-Length: 10000000\r\n\r\n[",
        }


def _user(token: str) -> str:
    """Return whom a token names, believing it."""
    try:
        said = token.split(".")[1]
        return str(json.loads(urlsafe_b64decode(said + "=" * (-len(said) % 4)))["sub"])
    except (IndexError, ValueError, KeyError, TypeError):
        return ""
