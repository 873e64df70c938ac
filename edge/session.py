"""One session, from the upgrade to the close: a state machine without I/O.

                       upgraded                          verified             registered
    AWAITING ──connect frame──▶ VERIFYING ───────────▶ REGISTERING ───────▶ LIVE
        │     (or token in       │  refused,             │  overdue           │  token expired, replaced,
        │      the header)       │  keys unavailable     │                    │  slow, draining …
        └──────────┴─────────────┴──────────▶ CLOSING ◀──┴────────────────────┘

Theory of operation: whoever owns the socket calls a method for each thing that happened, and carries out the actions that
it returns, in order. What comes too late for the state the session is in (a token verified after the close, say) returns
no actions. `Await` replaces the deadline before it, and stands first, for carrying out the others may end the session and
set another one; when the deadline passes, call `overdue`.

The welcome is the first that a client hears, but for a refusal: what it sends before is answered behind it.

Messages do not come through here but straight to the session's position, which is the hot path; the session says when
the position may start.
"""

from __future__ import annotations

import math
import secrets
import time
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from edge.client_frames import OWN, Ack, BadFrame, ClientFrame, Connect, Options, Ping, decode, frame_options, query_options
from edge.closes import Close
from edge.frames import Bye, CaughtUp, Error, Lost, Pong, ServerFrame, Welcome, encode
from edge.handshake import SUBPROTOCOL, Upgrade
from edge.position import Outlet, Position
from router.settings import Settings
from router.targets import USER_PREFIX


class State(Enum):
    """How far a session has come."""

    AWAITING = auto()
    VERIFYING = auto()
    REGISTERING = auto()
    LIVE = auto()
    CLOSING = auto()


@dataclass(frozen=True, slots=True)
class Send:
    """Write these bytes: whole WebSocket frames."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Verify:
    """Check the token, then call `verified`, `refused` or `unverifiable`."""

    token: str


@dataclass(frozen=True, slots=True)
class Register:
    """Let `position` hear of its user's messages, write the route, then call `registered` with the head."""

    user: str
    device: str | None
    position: Position


@dataclass(frozen=True, slots=True)
class Await:
    """Call `overdue` unless the next `Await` comes within this time."""

    timeout_s: float


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Send a close frame; nothing follows it."""

    close: Close
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CatchUp:
    """Have `position`, which is behind, brought to its goal; tell the client there if `announce`."""

    position: Position
    announce: bool


Action = Send | Verify | Register | CatchUp | Await | Disconnect
Actions = tuple[Action, ...]

_OVERDUE = {
    State.AWAITING: (Close.NOT_AUTHENTICATED, "no connect frame in time"),
    State.VERIFYING: (Close.OVERLOADED, "the token could not be checked in time"),
    State.REGISTERING: (Close.OVERLOADED, "the route could not be written in time"),
    State.LIVE: (Close.TOKEN_EXPIRED, ""),
}


_EARLY_MAX: Final = 16
"""Most answers kept for after the welcome. A client has no use for one: it is a bound on what a rude one costs."""


class Session:
    """A session of the node `node`.

    Args:
        settings: timeouts and limits.
        node: the node id, told in the welcome.
        outlet: what messages of this session are put into.

    Attributes:
        state: read it; only the methods change it.
        id: random, told in the welcome.
        user: "" until the token is verified.
        position: the place in the user's own order; None until the token is verified.
        acked: the highest seq that the client has acknowledged. Replay starts from it once cursors are stored.
    """

    __slots__ = ("_early", "_node", "_options", "_outlet", "_settings", "_valid_s", "acked", "id", "position", "state", "user")

    def __init__(self, settings: Settings, node: str, outlet: Outlet) -> None:
        self.state = State.AWAITING
        self.id = secrets.token_hex(8)
        self.user = ""
        self.position: Position | None = None
        self.acked = 0
        self._settings = settings
        self._node = node
        self._outlet = outlet
        self._options = Options()
        self._early: tuple[bytes, ...] = ()
        self._valid_s = math.inf

    # -- on the way in -----------------------------------------------------------------------------------------------

    def upgraded(self, upgrade: Upgrade) -> Actions:
        """The handshake is over."""
        if upgrade.subprotocols and SUBPROTOCOL not in upgrade.subprotocols:
            return self.close(Close.UNKNOWN_SUBPROTOCOL, f"offer {SUBPROTOCOL}")
        try:
            self._options = query_options(upgrade.query)
        except BadFrame as exc:
            return self._close_for(exc)
        if upgrade.token is None:
            return (Await(self._settings.connect_timeout_s),)
        return self._verify(upgrade.token)

    def verified(self, user: str, valid_s: float) -> Actions:
        """The token is good: it proves `user`, for another `valid_s` seconds."""
        if self.state is not State.VERIFYING:
            return ()
        self.state = State.REGISTERING
        self.user = user
        self._valid_s = valid_s
        self.position = Position(self._outlet, USER_PREFIX + user, self._settings.send_buffer_max_bytes)
        return Await(self._settings.redis_timeout_s), Register(user, self._options.device, self.position)

    def refused(self, reason: str) -> Actions:
        """The token proves nothing."""
        return self.close(Close.NOT_AUTHENTICATED, reason)

    def unverifiable(self) -> Actions:
        """There is no key to check the token with: it may be good, so the client is to come again."""
        return self.close(Close.OVERLOADED, "no key to check the token with")

    def registered(self, head: int) -> Actions:
        """The route is written and `head` read after that."""
        position = self.position
        if self.state is not State.REGISTERING or position is None:
            return ()
        self.state = State.LIVE
        welcome = encode(Welcome(self.user, self.id, self._node, head, _brief(self._settings.heartbeat_s)))
        frames = [welcome, *self._unsupported(), *self._early, *self._begin(position, head)]
        self._early = ()
        sent = Await(self._valid_s), Send(b"".join(frames))
        return sent if position.goal is None else (*sent, CatchUp(position, OWN in self._options.since))

    def _begin(self, position: Position, head: int) -> list[bytes]:
        """Begin where the client wishes, and return what follows the welcome."""
        since = self._options.since.get(OWN)
        if since is None:
            return position.start(head)
        # A cursor from the future is not of this cluster, and would make a duplicate of all that comes.
        since = min(since, max(head, time.time_ns() // 1_000))
        frames = self._lost(position.target, since, head)
        frames += position.start_after(since, head)
        if position.goal is None:
            frames.append(encode(CaughtUp(position.target, since)))
        return frames

    def _lost(self, target: str, since: int, head: int) -> list[bytes]:
        # A seq is the Redis time in µs of its giving, or little above it; 0 asks for what there is, and misses nothing.
        until = min(head, int((time.time() - self._settings.retention_s) * 1_000_000))
        return [encode(Lost(target, since, until))] if 0 < since < until else []

    # -- from the client ---------------------------------------------------------------------------------------------

    def text(self, data: bytes) -> Actions:
        """The client sent a text message."""
        if self.state is State.CLOSING:
            return ()
        try:
            frame = decode(data)
            return self._connect(frame) if self.state is State.AWAITING else self._reply(self._answer(frame))
        except BadFrame as exc:
            return self._close_for(exc)

    def binary(self) -> Actions:
        """The client sent a binary message, which the protocol has not."""
        return self._close_for(BadFrame("a binary message; send JSON in text messages"))

    def _connect(self, frame: ClientFrame) -> Actions:
        if not isinstance(frame, Connect):
            return self.close(Close.NOT_AUTHENTICATED, "the first frame must be connect")
        asked, wished = self._options, frame_options(frame)
        self._options = Options(
            asked.device if wished.device is None else wished.device,
            wished.since or asked.since,
            wished.topics or asked.topics,
        )
        return self._verify(frame.token)

    def _answer(self, frame: ClientFrame) -> ServerFrame | None:
        match frame:
            case Ping():
                return Pong()
            case Ack():
                return self._ack(frame)
            case Connect():
                return Error("unexpected", "connect: the token and wishes that came first stand")
            case _:
                return _not_supported(type(frame).__name__.lower())

    def _ack(self, ack: Ack) -> Error | None:
        own = USER_PREFIX + self.user
        position = self.position
        if position is None or not position.started:
            return Error("bad_ack", "ack: nothing was sent yet")
        if ack.to not in {None, own}:
            return Error("bad_ack", f"ack: nothing was sent but of {own}")
        if ack.seq > position.at:
            return Error("bad_ack", f"ack: {ack.seq} is beyond what was sent ({position.at})")
        self.acked = max(self.acked, ack.seq)
        return None

    def _reply(self, answer: ServerFrame | None) -> Actions:
        if answer is None:
            return ()
        if self.state is State.LIVE:
            return (_send(answer),)
        if len(self._early) == _EARLY_MAX:
            return self._close_for(BadFrame(f"more than {_EARLY_MAX} frames before the welcome"))
        self._early += (encode(answer),)
        return ()

    # -- on the way out ----------------------------------------------------------------------------------------------

    def overdue(self) -> Actions:
        """The time of the last `Await` is over."""
        if self.state is State.CLOSING:
            return ()
        return self.close(*_OVERDUE[self.state])

    def drained(self, retry_after_ms: int) -> Actions:
        """The edge is stopping, and it is this session's turn to go."""
        if self.state is State.CLOSING:
            return ()
        bye = _send(Bye(Close.DRAINING.reason(), retry_after_ms))
        return bye, *self.close(Close.DRAINING)

    def close(self, close: Close, detail: str = "") -> Actions:
        """End the session, for a reason that lies outside it."""
        if self.state is State.CLOSING:
            return ()
        self.state = State.CLOSING
        return Await(self._settings.close_timeout_s), Disconnect(close, detail)

    def left(self) -> Actions:
        """The client closed, or a breach of RFC 6455 did: the closing handshake has its own deadline."""
        if self.state is State.CLOSING:
            return ()
        self.state = State.CLOSING
        return (Await(self._settings.close_timeout_s),)

    def _verify(self, token: str) -> Actions:
        self.state = State.VERIFYING
        return Await(self._settings.connect_timeout_s), Verify(token)

    def _close_for(self, problem: BadFrame) -> Actions:
        if self.state is State.CLOSING:
            return ()
        return _send(Error("bad_frame", str(problem))), *self.close(Close.BAD_FRAME, str(problem))

    def _unsupported(self) -> list[bytes]:
        # Topics and broadcast: a wish that is not granted is answered, never passed over.
        wishes = [f"since {name}" for name in self._options.since if name != OWN]
        wishes += ["topics"] if self._options.topics else []
        return [encode(_not_supported(wish)) for wish in wishes]


def _not_supported(wish: str) -> Error:
    return Error("not_supported", f"{wish}: this version does not carry it out")


def _brief(seconds: float) -> float:
    """Return 25 for 25.0: it reads better in JSON."""
    return int(seconds) if seconds.is_integer() else seconds


def _send(frame: ServerFrame) -> Send:
    return Send(encode(frame))
