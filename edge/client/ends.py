"""How a connection ended, and what follows from it. The ranges of close codes are a promise of the protocol. Pure."""

from __future__ import annotations

from typing import Final

from websockets.exceptions import ConnectionClosed

from edge.client.errors import ClientError

NORMAL: Final = 1000
ABNORMAL: Final = 1006
"""What the API of browsers reports, too, when a connection ended without a close frame (RFC 6455, section 7.1.5)."""
TOKEN_EXPIRED: Final = 4003

DO_NOT_RECONNECT: Final = range(4500, 5000)


class NotWelcome(ClientError):
    """The edge closed with a code that says: do not reconnect.

    Attributes:
        code: 4500 to 4999.
        reason: the edge's own words.
    """

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"the edge closed the connection for good: {reason or 'no reason given'} ({code})")


def farewell(exc: ConnectionClosed) -> tuple[int, str]:
    """Return close code and reason; without a close frame, 1006 and what happened instead."""
    if exc.rcvd is None:
        return ABNORMAL, "the connection was cut"
    return exc.rcvd.code, exc.rcvd.reason


def cause(exc: Exception) -> str:
    """Return in words why there is no connection."""
    if isinstance(exc, ConnectionRefusedError) and exc.errno is not None:
        return "nothing listens there"  # the event loop's own words are "Connect call failed", and the address again
    return str(exc) or type(exc).__name__
