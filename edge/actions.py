"""What a session asks of whoever owns its socket: values, carried out in order (`edge.connection`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edge.closes import Closing
from edge.feed import Hearing
from edge.frames import ServerFrame, encode
from edge.position import Position
from router.cursors import CursorKey


@dataclass(frozen=True, slots=True)
class Send:
    """Write these bytes: whole WebSocket frames."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Verify:
    """Check the token, then call `verified`, `refused`, `expired` or `unverifiable`."""

    token: str


@dataclass(frozen=True, slots=True)
class Register:
    """Let `position` hear of its user's messages, write the route, then call `routed`, and `registered` with the head."""

    user: str
    device: str | None
    position: Position


@dataclass(frozen=True, slots=True)
class Challenge:
    """Ping the client, and call `answered` when the pong to this ping comes."""


@dataclass(frozen=True, slots=True)
class Prove:
    """Tell the other nodes of the user that this session of the device is alive, then call `proved`."""

    device: str


@dataclass(frozen=True, slots=True)
class Await:
    """Call `overdue` unless the next `Await` comes within this time."""

    timeout_s: float


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Send a close frame; nothing follows it."""

    close: Closing
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CatchUp:
    """Have `position`, which is behind, brought to its goal; tell the client there if `announce`."""

    position: Position
    announce: bool


@dataclass(frozen=True, slots=True)
class FindCursor:
    """Look up the cursors, or begin them, durably, where it says; then call `resumed`."""

    begin_at: Mapping[CursorKey, int]


@dataclass(frozen=True, slots=True)
class MoveCursor:
    """Have the cursor moved forward to `seq`, a little later."""

    key: CursorKey
    seq: int


@dataclass(frozen=True, slots=True)
class Hear:
    """Have the node hear of a topic's messages, or everybody's, if it does not yet; then call `heard` with the feed."""

    target: str


@dataclass(frozen=True, slots=True)
class FindStanding:
    """Look up what back ends have subscribed the user to, whenever that can be done; then call `standing`."""


FIND_STANDING: Final = FindStanding()
"""For everybody who comes: one object."""


@dataclass(frozen=True, slots=True)
class Forgo:
    """Call `heard` no more for a target that was asked for."""

    target: str


@dataclass(frozen=True, slots=True)
class Watch:
    """Have the session told who else has subscribed to a topic that it has joined, until it leaves."""

    topic: str


@dataclass(frozen=True, slots=True)
class Leave:
    """End the session's hearing of a feed."""

    hearing: Hearing


Action = (
    Send
    | Verify
    | Register
    | Hear
    | Forgo
    | Leave
    | Watch
    | FindCursor
    | FindStanding
    | MoveCursor
    | CatchUp
    | Challenge
    | Prove
    | Await
    | Disconnect
)
Actions = tuple[Action, ...]


def tell(frame: ServerFrame) -> Send:
    """Return the action that tells the client one thing."""
    return Send(encode(frame))
