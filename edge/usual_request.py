"""The usual request to upgrade, read the short way: as browsers and our clients write it, whole, with nothing odd about it.

websockets reads a request line by line, as it may come, and answers whatever can be wrong with it; that is a seventh of what a
connect costs an edge, and an edge to which everybody comes back at once does little else. So what is plainly a request for a
WebSocket is read here, and all else, whatever is wrong or merely rare about it, is left to websockets, which has the last word
on it: `None` means that nothing has been judged.

The one promise: what is taken here, `edge.handshake` would take too, with the same facts and the same answer to the byte. A
property of the tests holds that against it.
Sources: RFC 6455 sections 4.1 and 4.2, RFC 9112.
"""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from functools import lru_cache
from typing import Final, NamedTuple

from websockets.utils import accept_key

from edge.upgrade import PATH, SUBPROTOCOL

_MAX_BYTES: Final = 4_096
"""Longest request that is usual: the token of one that uses all that a header may hold is not."""

_REQUEST: Final = re.compile(
    rf"GET ({PATH}(?:\?[!\"$-~]*)?) HTTP/1\.1\r\n"  # what can be seen, but no fragment
    r"((?:[A-Za-z0-9-]{1,64}: [!-~][ -~]*(?<! )\r\n){4,64})\r\n"
)
"""The address; the headers, each of which has a value, one space before it and none behind it."""

_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")
_CONNECTION: Final = frozenset({"upgrade", "keep-alive, upgrade"})
_OF_A_BODY: Final = frozenset({"content-length", "transfer-encoding"})


class FieldsOnce(dict[str, str]):
    """Headers each of which came once, by their names in lower case."""

    def get_all(self, key: str) -> list[str]:
        """Return what those of a name say: one or none."""
        value = self.get(key.lower())
        return [] if value is None else [value]


class UsualRequest(NamedTuple):
    """A request that is to be answered with 101.

    Attributes:
        path: path and query.
        headers: all of them.
    """

    path: str
    headers: FieldsOnce

    @property
    def offered(self) -> tuple[str, ...]:
        """The subprotocols: ours or none."""
        return (SUBPROTOCOL,) if "sec-websocket-protocol" in self.headers else ()

    def answer(self) -> bytes:
        """Return the answer."""
        subprotocol = f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n" if self.offered else ""
        return (
            f"HTTP/1.1 101 Switching Protocols\r\nDate: {_date(int(time.time()))}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept_key(self.headers['sec-websocket-key'])}\r\n{subprotocol}\r\n"
        ).encode()


def read(data: bytes) -> UsualRequest | None:
    """Return a usual request, if that is all that these bytes are: the first of a client."""
    parts = _REQUEST.fullmatch(str(data, "latin-1")) if len(data) <= _MAX_BYTES else None
    if parts is None:
        return None
    lines = parts[2].split("\r\n")[:-1]
    headers = FieldsOnce([(name.lower(), value) for name, _, value in [line.partition(": ") for line in lines]])
    is_usual = len(headers) == len(lines) and _is_for_websocket(headers)
    return UsualRequest(parts[1], headers) if is_usual else None


def _is_for_websocket(headers: FieldsOnce) -> bool:
    return (
        "host" in headers
        and headers.get("upgrade", "").lower() == "websocket"
        and headers.get("connection", "").lower() in _CONNECTION
        and headers.get("sec-websocket-version") == "13"
        and _KEY.fullmatch(headers.get("sec-websocket-key", "")) is not None
        and headers.get("sec-websocket-protocol", SUBPROTOCOL) == SUBPROTOCOL
        and headers.keys().isdisjoint(_OF_A_BODY)
    )


@lru_cache(1)
def _date(now_s: int) -> str:
    return formatdate(now_s, usegmt=True)
