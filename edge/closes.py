"""Why the edge ends a connection: the close codes, which are a contract.

A browser cannot read the answer to a refused handshake, so a refusal too is a close code after the upgrade. The range is
a promise, so that a client can handle codes it has never heard of: 4500 to 4999 mean "do not reconnect", anything else
but 1000 means "do, with backoff and full jitter". Centrifugo divides its codes likewise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from websockets.frames import CloseCode

REASON_MAX_BYTES: Final = 123
"""RFC 6455 section 5.5: a control frame carries 125 bytes, of which the code takes two."""


@unique
class Close(Enum):
    """A close code of ours and its reason in words."""

    DRAINING = (4000, "draining")
    OVERLOADED = (4001, "overloaded")
    SLOW_CONSUMER = (4002, "slow consumer")
    TOKEN_EXPIRED = (4003, "token expired")
    HEARTBEAT_LOST = (4004, "heartbeat lost")
    TOO_FAST = (4005, "too fast")
    TOO_MANY_SESSIONS = (4007, "too many sessions")
    NOT_AUTHENTICATED = (4500, "not authenticated")
    FORBIDDEN = (4501, "forbidden")
    REPLACED = (4502, "replaced")
    BAD_FRAME = (4504, "bad frame")
    TOO_LARGE = (4505, "too large")
    UNKNOWN_SUBPROTOCOL = (4506, "unknown subprotocol")

    @property
    def code(self) -> int:
        """The code as it stands in the close frame."""
        return self.value[0]

    def reason(self, detail: str = "") -> str:
        """Return the reason for the close frame: the words of the code, then `detail`, cut to what a frame holds."""
        return _cut(f"{self.value[1]}: {detail}" if detail else self.value[1])


@dataclass(frozen=True, slots=True)
class Chosen:
    """A close code from 4000 to 4999 and a reason that a back end has chosen (`edge.kicked`), as the client is to have them."""

    code: int
    words: str

    def reason(self, detail: str = "") -> str:
        """Return the reason for the close frame; the edge has no `detail` to add."""
        del detail
        return _cut(self.words)


Closing = Close | Chosen
"""What ends a session from this side."""

_CODES: Final = frozenset(close.code for close in Close)
_CHOSEN: Final = range(4000, 5000)


_BREACHES: Final = frozenset(
    close.code
    for close in (
        *(Close.SLOW_CONSUMER, Close.TOO_FAST, Close.TOO_MANY_SESSIONS),
        *(Close.NOT_AUTHENTICATED, Close.FORBIDDEN, Close.BAD_FRAME, Close.TOO_LARGE),
    )
) | {CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_DATA}


def is_breach(code: int) -> bool:
    """Tell whether a close code says that the client did what it must not do."""
    return code in _BREACHES


def counted_as(code: int) -> str:
    """Return what a close code is counted as: itself, or `other` where only a back end chooses it, who has a thousand."""
    return "other" if code in _CHOSEN and code not in _CODES else str(code)


def _cut(text: str) -> str:
    return text.encode()[:REASON_MAX_BYTES].decode(errors="ignore")
