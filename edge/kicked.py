"""The line by which an edge is told to close sessions of a user: `kicked - - - {"user":…,"code":4502,"reason":…}`.

Whoever ends sessions sends it to the nodes that the user is routed to (`router.kick`); with `device` or `session` it is about
those alone. It closes what stands in the node's table at that moment. A session that has not been taken in yet (its token is
being looked at) goes on, and so does one that comes afterwards: to keep a user out, give out no tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Protocol

import msgspec

from edge.closes import Chosen, Closing
from router import kick

WORD: Final = kick.WORD.encode()
"""In the place of a line's target."""


class Kicked(msgspec.Struct, frozen=True):
    """Whose sessions are to end, with which close code, and why; where `device` or `session` is given, only those."""

    user: str
    code: Annotated[int, msgspec.Meta(ge=4000, le=4999)]
    reason: str
    device: str | None = None
    session: str | None = None


_decoder: Final = msgspec.json.Decoder(Kicked)


class Named(Protocol):
    """What has an id: a session."""

    @property
    def id(self) -> str:
        """The `session` of its welcome."""


class Holder(Protocol):
    """Who holds a session; see `edge.connection`."""

    @property
    def session(self) -> Named:
        """It."""

    def close(self, close: Closing, detail: str = "") -> None:
        """End the session."""


class Table(Protocol):
    """Who holds which sessions; see `edge.sessions`. Both return them as they are when asked."""

    def of_user(self, user: str) -> Sequence[Holder]:
        """Return who holds sessions of a user."""

    def find(self, user: str, device: str) -> Sequence[Holder]:
        """Return who holds sessions of a device."""


def hear(table: Table, payload: bytes) -> None:
    """Close the sessions that a line is about, if there are any here.

    Args:
        table: tells who holds them.
        payload: what stands in the place of the frame.

    Raises:
        ValueError: when that is no such line.
    """
    kicked = _decoder.decode(payload)
    for holder in _holders(table, kicked):
        holder.close(Chosen(kicked.code, kicked.reason))


def _holders(table: Table, kicked: Kicked) -> Iterable[Holder]:
    found = table.of_user(kicked.user) if kicked.device is None else table.find(kicked.user, kicked.device)
    return found if kicked.session is None else [holder for holder in found if holder.session.id == kicked.session]
