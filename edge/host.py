"""What a connection needs from the edge that it belongs to, and which of a session's actions ask for it.

None of it awaits: what takes time is answered later, by a call of the connection, and may be answered within the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from edge.actions import CatchUp, FindCursor, FindStanding, Forgo, Hear, Leave, MoveCursor, Prove, Register, Watch
from edge.feed import Hearing
from edge.forwarded import Proxies
from edge.gate import Gate
from edge.position import Position
from edge.upgrade import Asked
from router.crowd import Turns
from router.cursors import CursorKey
from router.settings import Settings

if TYPE_CHECKING:  # each knows the other by its type alone
    from edge.connection import Connection


class Host(Protocol):
    """What a connection needs from the edge it belongs to; each may call the connection back."""

    settings: Settings
    node: str
    gate: Gate
    proxies: Proxies
    turns: Turns

    def opened(self, connection: Connection) -> None:
        """A socket is there."""

    def requested(self, connection: Connection, request: Asked) -> None:
        """A request was answered with 101; its facts are the session's, but for what a judge of tokens may ask for."""

    def verify(self, connection: Connection, token: str) -> None:
        """Check a token; then call `verified`, `refused`, `expired` or `unverifiable`."""

    def register(self, connection: Connection, user: str, device: str | None, position: Position) -> None:
        """Take the session in and write its route; then call `registered`."""

    def find_head(self, connection: Connection) -> None:
        """Look up the head of the session's user in MongoDB; then call `head_found`."""

    def hear(self, connection: Connection, target: str) -> None:
        """Have the node hear of a target; then call `heard`."""

    def forgo(self, connection: Connection, target: str) -> None:
        """Call `heard` no more for a target."""

    def leave(self, hearing: Hearing) -> None:
        """End a session's hearing of a feed."""

    def watch(self, connection: Connection, topic: str) -> None:
        """Have a session told who else has subscribed to a topic that it hears."""

    def find_cursor(self, connection: Connection, begin_at: Mapping[CursorKey, int]) -> None:
        """Look up a device's cursors, or begin them; then call `resumed`."""

    def find_standing(self, user: str) -> None:
        """Look up what back ends have subscribed the user to; then call `standing` of all the user's connections."""

    def move_cursor(self, key: CursorKey, seq: int) -> None:
        """Have a device's cursor moved forward."""

    def prove(self, connection: Connection, device: str) -> None:
        """Have the user's other nodes told that the device's session is alive; then call `proved`."""

    def replace(self, user: str, device: str, session: str, at_us: int) -> None:
        """Tell the sessions of that device here that this one was proved alive at that time."""

    def catch_up(self, position: Position, announce: bool) -> None:
        """Bring a position that is behind to its goal."""

    def left(self, connection: Connection) -> None:
        """It takes no more messages. Called once or more."""

    def closed(self, connection: Connection) -> None:
        """The socket is gone."""


Asking = Register | Hear | Forgo | Leave | Watch | FindCursor | FindStanding | MoveCursor | CatchUp | Prove
"""The actions that the host carries out."""


def ask(host: Host, connection: Connection, action: Asking) -> None:  # noqa: C901 - a table
    """Have the host carry out what a session asks for."""
    match action:
        case Register(user, device, position):
            host.register(connection, user, device, position)
        case Hear(target):
            host.hear(connection, target)
        case Forgo(target):
            host.forgo(connection, target)
        case Leave(hearing):
            host.leave(hearing)
        case FindCursor(begin_at):
            host.find_cursor(connection, begin_at)
        case FindStanding():
            host.find_standing(connection.session.user)
        case MoveCursor(key, seq):
            host.move_cursor(key, seq)
        case CatchUp(position, announce):
            host.catch_up(position, announce)
        case Watch(topic):
            host.watch(connection, topic)
        case Prove(device):
            host.prove(connection, device)
