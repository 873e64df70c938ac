"""Why the edge ends a connection: the close codes, which are a contract.

A browser cannot read the answer to a refused handshake, so a refusal too is a close code after the upgrade. The range is
a promise, so that a client can handle codes it has never heard of: 4500 to 4999 mean "do not reconnect", anything else
but 1000 means "do, with backoff and full jitter". Centrifugo divides its codes likewise.
"""

from __future__ import annotations

from enum import Enum, unique
from typing import Final

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
    TOO_MANY_SESSIONS = (4007, "too many sessions")
    NOT_AUTHENTICATED = (4500, "not authenticated")
    REPLACED = (4502, "replaced")
    KICKED = (4502, "kicked")
    BAD_FRAME = (4504, "bad frame")
    TOO_LARGE = (4505, "too large")
    UNKNOWN_SUBPROTOCOL = (4506, "unknown subprotocol")

    @property
    def code(self) -> int:
        """The code as it stands in the close frame."""
        return self.value[0]

    def reason(self, detail: str = "") -> str:
        """Return the reason for the close frame: the words of the code, then `detail`, cut to what a frame holds."""
        text = f"{self.value[1]}: {detail}" if detail else self.value[1]
        return text.encode()[:REASON_MAX_BYTES].decode(errors="ignore")
