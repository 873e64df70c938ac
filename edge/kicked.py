"""The line by which an edge is told to close all sessions of a user: `kicked - - - {"user":…,"code":4502,"reason":…}`.

Whoever ends sessions sends it to the nodes that the user is routed to (`router.kick`). It closes what stands in the node's
table at that moment. A session that has not been taken in yet (its token is being looked at) goes on, and so does one that
comes afterwards: to keep a user out, give out no tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from edge.closes import Close

WORD: Final = b"kicked"
"""In the place of a line's target."""


class Kicked(msgspec.Struct, frozen=True):
    """Whose sessions are to end, with which close code, and why."""

    user: str
    code: int
    reason: str


_decoder: Final = msgspec.json.Decoder(Kicked)


class Holder(Protocol):
    """Who holds a session; see `edge.connection`."""

    def close(self, close: Close, detail: str = "") -> None:
        """End the session."""


Find = Callable[[str], Sequence[Holder]]
"""Returns who holds sessions of a user, as they were when it was asked."""


def hear(find: Find, payload: bytes) -> None:
    """Close the sessions of the user that a line is about, if there are any here.

    Args:
        find: returns who holds them.
        payload: what stands in the place of the frame.

    Raises:
        ValueError: when that is no such line.
    """
    kicked = _decoder.decode(payload)
    if kicked.code != Close.KICKED.code:
        raise ValueError(f"sessions are kicked with {Close.KICKED.code}, not {kicked.code}")
    for holder in find(kicked.user):
        holder.close(Close.KICKED, kicked.reason)
