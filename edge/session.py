"""One session, from the upgrade to the close: a state machine without I/O.

             upgraded               verified             registered          resumed
    AWAITING ─────────▶ VERIFYING ────────────▶ REGISTERING ──────▶ RESUMING ───────▶ LIVE
        │   (token in       │ refused,              │  │  overdue       │               │ token expired, replaced,
        │    header or      │ keys unavailable      │  └────────────────┼──────────────▶│ slow, draining …
        │    connect frame) │                       │   no cursor to look up            │
        └───────────────────┴──────────▶ CLOSING ◀──┴───────────────────┴───────────────┘

In RESUMING the session waits for the feed of `all`, which nearly always stands, and a device that does not say itself what it
has is looked up: once the heads are known, so that nothing lies between the two (`edge.places`). A device that nobody knows
begins at the head, and its cursors are stored before it is welcome: from the welcome on it is owed everything, whatever becomes
of this edge.

Theory of operation: whoever owns the socket calls a method for each thing that happened, and carries out the actions that
it returns, in order. What comes too late for the state the session is in (a token verified after the close, say) returns
no actions. `Await` replaces the deadline before it, and stands first, for carrying out the others may end the session and
set another one; when the deadline passes, call `overdue`.

The welcome is the first that a client hears, but for a refusal: what it sends before is answered behind it.

Of the sessions of a device one is to stay, and a session that its client has given up must not be that one. A connect frame
may have waited, in the socket of an edge that was frozen, until long after its client went elsewhere. So the welcome of a
device is followed by a ping, and only who answers it replaces others (`edge.rivals`, `edge.replaced`):

    LIVE ── Challenge ──▶ answered ── Prove ──▶ proved: from now on the session with the latest proof stays
                ▲             │
                └─────────────┘ too late to say anything of now

The end of its token ends a session, and its client is told before (`edge.token_life`, `edge.term`):

    LIVE ── overdue ──▶ `expiring` ── overdue ──▶ CLOSING
      ▲                     │
      └─ verified ── Verify ┘ a newer token, at any time: the session goes on, whatever the answer

Messages do not come through here but straight to the session's position, which is the hot path; the session says when
the position may start. Those of `all` and of topics (`edge.subscriptions`) come through feeds, which the session joins.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Final

from edge.actions import Actions, Await, Challenge, Disconnect, FindCursor, Hear, Prove, Register, Send, Verify, tell
from edge.client_frames import (
    NO_OPTIONS,
    SHOWN_CHARS,
    Ack,
    BadFrame,
    ClientFrame,
    Connect,
    Ping,
    Subscribe,
    Token,
    Unsubscribe,
    checked_topic,
    decode,
    frame_options,
    query_options,
)
from edge.closes import Close, Closing
from edge.feed import Feed
from edge.frames import Bye, Error, Extended, Pong, ServerFrame, Unsubscribed, Welcome, encode
from edge.origins import is_allowed
from edge.places import Places, own_cursor
from edge.position import Outlet, Position
from edge.rivals import Rivals
from edge.term import in_frame
from edge.token_life import TokenLife
from edge.upgrade import SUBPROTOCOL, Upgrade
from edge.wishes import merged, with_topic, without_topic
from router.cursors import CursorKey
from router.settings import Settings
from router.targets import ALL


class State(Enum):
    """How far a session has come."""

    AWAITING = auto()
    VERIFYING = auto()
    REGISTERING = auto()
    RESUMING = auto()
    LIVE = auto()
    CLOSING = auto()


_OVERDUE = {
    State.AWAITING: (Close.NOT_AUTHENTICATED, "neither Authorization nor a connect frame came in time"),
    State.VERIFYING: (Close.OVERLOADED, "the token could not be checked in time"),
    State.REGISTERING: (Close.OVERLOADED, "the route could not be written in time"),
    State.RESUMING: (Close.OVERLOADED, "heads or cursors could not be read in time"),
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
        places: where it stands in all that it hears; None until the token is verified.
    """

    __slots__ = (
        "_early",
        "_node",
        "_options",
        "_outlet",
        "_rivals",
        "_settings",
        "_token",
        "id",
        "places",
        "state",
        "user",
    )

    def __init__(self, settings: Settings, node: str, outlet: Outlet) -> None:
        self.state = State.AWAITING
        self.id = secrets.token_hex(8)
        self.user = ""
        self._settings = settings
        self._node = node
        self._outlet: Outlet | None = outlet
        self._options = NO_OPTIONS
        self._early: tuple[bytes, ...] = ()
        self.places: Places | None = None
        self._rivals = Rivals()
        self._token = TokenLife(settings.token_notice_s)

    @property
    def position(self) -> Position | None:
        """The place in the user's own order; None until the token is verified."""
        return None if self.places is None else self.places.own

    @property
    def acked(self) -> int:
        """The highest seq of the user's own that the client has acknowledged, or came with."""
        return 0 if self.places is None else self.places.acked

    @property
    def iat(self) -> int:
        """When its token was issued, Unix seconds."""
        return self._token.iat

    @property
    def jti(self) -> str:
        """The id of its token; "" where it has none."""
        return self._token.jti

    @property
    def cursor(self) -> CursorKey | None:
        """The cursor of the user's own messages; None for a session without a device, or without a user yet."""
        return own_cursor(self.user, self._options.device)

    @property
    def names(self) -> tuple[str, ...]:
        """What a producer calls it by who has a message pass it by."""
        session, device = f"session:{self.id}", self._options.device
        return (session,) if device is None else (session, f"device:{self.user},{device}")

    @property
    def _live(self) -> Places | None:
        """Where it stands, from the welcome to the close; None before and after."""
        return self.places if self.state is State.LIVE else None

    # -- on the way in -----------------------------------------------------------------------------------------------

    def upgraded(self, upgrade: Upgrade) -> Actions:
        """The handshake is over."""
        if upgrade.subprotocols and SUBPROTOCOL not in upgrade.subprotocols:
            return self.close(Close.UNKNOWN_SUBPROTOCOL, f"offer {SUBPROTOCOL}")
        if not is_allowed(upgrade.origin, upgrade.host, self._settings.edge_origins):
            return self.close(Close.FORBIDDEN, f"pages of {upgrade.origin} may not connect (edge_origins)")
        try:
            self._options = query_options(upgrade.query)
        except BadFrame as exc:
            return self._close_for(exc)
        if upgrade.token is None:
            return (Await(self._settings.connect_timeout_s),)
        return self._verify(upgrade.token)

    def verified(
        self,
        user: str,
        valid_s: float,
        patterns: Sequence[str] = (),
        granted: Sequence[str] = (),
        *,
        iat: int = 0,
        jti: str = "",
    ) -> Actions:
        """The token is good: it proves `user`, for another `valid_s` seconds, and grants topics. So does a newer one.

        Args:
            user: who it is.
            valid_s: seconds.
            patterns: of topics that the client may ask for.
            granted: topics that it need not ask for.
            iat: when it was issued, Unix seconds.
            jti: its id; "" for none.
        """
        if self._outlet is None:
            return ()
        if self._live is not None and self._token.is_asked:
            return self._token.ask_next() or self._extend(user, valid_s, patterns, granted, iat, jti)
        if self.state is not State.VERIFYING:
            return ()
        self.state = State.REGISTERING
        self.user = user
        self._token.good_for(valid_s)
        self._token.is_of(iat, jti)
        self.places = Places(self._settings, self._outlet, user, self._options.device, patterns, granted)
        return Await(self._settings.redis_timeout_s), Register(user, self._options.device, self.places.own)

    def refused(self, reason: str, close: Close = Close.NOT_AUTHENTICATED) -> Actions:
        """The token proves nothing; `close` says what else becomes of its bearer, where there is no token before it."""
        if self.state is State.LIVE:
            return self._token.keep(Error("bad_token", f"token: {reason}"))
        return self.close(close, reason)

    def expired(self) -> Actions:
        """The token was good once."""
        if self.state is State.LIVE:
            return self._token.keep(Error("bad_token", "token: it has expired"))
        return self.close(Close.TOKEN_EXPIRED)

    def unverifiable(self, why: str = "there is no key to check it with just now") -> Actions:
        """The token cannot be checked: it may be good, so the client is to come again."""
        if self.state is State.LIVE:
            return self._token.keep(Error("unavailable", f"token: {why}"))
        return self.close(Close.OVERLOADED, f"token: {why}")

    def routed(self, at_us: int) -> None:
        """The route is written, at this time by Redis' clock."""
        if self.places is not None:
            self.places.routed_us = at_us

    def registered(self, head: int) -> Actions:
        """The route is written and `head` read after that."""
        if self.state is not State.REGISTERING or self.places is None:
            return ()
        self.places.head = head
        self.state = State.RESUMING
        return Await(self._settings.redis_timeout_s), Hear(ALL)

    def heard(self, feed: Feed) -> Actions:
        """A feed that was asked for may be joined."""
        if feed.position.target != ALL:
            return self._live.heard(feed) if self._live else ()
        if self.state is not State.RESUMING or self.places is None:
            return ()
        unknown = self.places.come(self._options.since, feed)
        return (FindCursor(unknown),) if unknown else self._begin(self.places, {})

    def resumed(self, cursors: Mapping[CursorKey, int] | None) -> Actions:
        """Cursors of the device are read, or begun; None when that cannot be done now."""
        if self.places is None or self.state not in {State.RESUMING, State.LIVE}:
            return ()
        if cursors is None:
            return self.close(Close.OVERLOADED, "the cursor cannot be read just now")
        found = {key.target: seq for key, seq in cursors.items()}
        return self._begin(self.places, found) if self.state is State.RESUMING else self.places.found(found)

    def _begin(self, places: Places, found: Mapping[str, int]) -> Actions:
        """Welcome the client, and begin where it stopped, if that is known."""
        self.state = State.LIVE
        heartbeat_s = _brief(self._settings.heartbeat_s)
        welcome = encode(Welcome(self.user, self.id, self._node, places.head, places.all_head, heartbeat_s))
        frames, then = places.begin(self._options, found)
        early, self._early = self._early, ()
        wait, notice = self._token.begin()
        data = b"".join([welcome, *early, *frames, *map(encode, notice)])
        return wait, Send(data), *self._challenge(), *then

    # -- one session a device ----------------------------------------------------------------------------------------

    def answered(self, took_s: float) -> Actions:
        """The client has answered the last challenge, so long after it was sent."""
        device = self._options.device
        if self.state is not State.LIVE or device is None:
            return ()
        # It may have waited where a connect frame may wait, too: sent in time, by a client that has been elsewhere since.
        return self._challenge() if took_s > self._settings.heartbeat_timeout_s else (Prove(device),)

    def proved(self, at_us: int) -> Actions:
        """The other nodes have been told, at this time by Redis' clock: now it can be compared with other sessions' proofs."""
        self._rivals.proved(at_us, self.id)
        return self._close_if_outdone()

    def replaced(self, at_us: int, session: str) -> Actions:
        """That session of this device, here or elsewhere, was proved alive at that time; the later one stays."""
        self._rivals.heard_of(at_us, session)
        return self._close_if_outdone()

    def _close_if_outdone(self) -> Actions:
        if not self._rivals.outdone:
            return ()
        return self.close(Close.REPLACED, "a newer session of this device")

    def _challenge(self) -> Actions:
        return () if self._options.device is None else (Challenge(),)

    # -- from the client ---------------------------------------------------------------------------------------------

    def text(self, data: bytes) -> Actions:
        """The client sent a text message."""
        if self.state is State.CLOSING:
            return ()
        try:
            frame = decode(data)
            if self.state is State.AWAITING:
                return self._connect(frame)
            return self._obey(frame)
        except BadFrame as exc:
            return self._close_for(exc)

    def binary(self) -> Actions:
        """The client sent a binary message, which the protocol has not."""
        return self._close_for(BadFrame("a binary message; send JSON in text messages"))

    def _connect(self, frame: ClientFrame) -> Actions:
        if not isinstance(frame, Connect):
            return self.close(Close.NOT_AUTHENTICATED, "the first frame must be connect")
        self._options = merged(self._options, frame_options(frame))
        return self._verify(frame.token)

    def _obey(self, frame: ClientFrame) -> Actions:
        match frame:
            case Ack():
                return self._ack(frame)
            case Subscribe():
                return self._subscribe(checked_topic(frame), frame.since, presence=frame.presence)
            case Unsubscribe():
                return self._unsubscribe(checked_topic(frame))
            case Token():
                return self._renew(frame.token)
            case Ping():
                return self._reply(Pong())
            case Connect():
                return self._reply(Error("unexpected", "connect: the token and wishes that came first stand"))

    def _ack(self, ack: Ack) -> Actions:
        places = self._live
        problem = places.problem_with(ack) if places else f"nothing was sent of {ack.to or 'anything'}"
        if places is None or problem:
            return self._reply(Error("bad_ack", f"ack: {problem[:SHOWN_CHARS]}"))
        return places.ack(ack)

    def _reply(self, answer: ServerFrame) -> Actions:
        if self.state is State.LIVE:
            return (tell(answer),)
        if len(self._early) == _EARLY_MAX:
            return self._close_for(BadFrame(f"more than {_EARLY_MAX} frames before the welcome"))
        self._early += (encode(answer),)
        return ()

    # -- a newer token -----------------------------------------------------------------------------------------------

    def _renew(self, token: str) -> Actions:
        if self.state is not State.LIVE:
            return self._reply(Error("unexpected", "token: the first one is still being looked at"))
        return self._token.renew(token)

    def _extend(
        self, user: str, valid_s: float, patterns: Sequence[str], granted: Sequence[str], iat: int, jti: str
    ) -> Actions:
        if self._live is None:
            return ()
        if user != self.user:
            return (tell(Error("forbidden", "token: it is of another user")),)
        self._token.is_of(iat, jti)
        wait, notice = self._token.extend(valid_s)
        frames: list[ServerFrame] = [Extended(in_frame(valid_s)), *notice]
        return wait, *map(tell, frames), *self._live.regranted(patterns, granted)

    # -- topics ------------------------------------------------------------------------------------------------------

    def _subscribe(self, topic: str, since: int | None, *, presence: bool) -> Actions:
        if self._live is not None:
            return self._live.subscribe(topic, since, presence=presence)
        if len(self._options.topics) >= self._settings.subscriptions_session_max + _EARLY_MAX:
            return self._close_for(BadFrame(f"more than {_EARLY_MAX} frames before the welcome"))
        self._options = with_topic(self._options, topic, since, presence=presence)
        return ()

    def _unsubscribe(self, topic: str) -> Actions:
        if self._live is not None:
            return self._live.unsubscribe(topic)
        self._options = without_topic(self._options, topic)
        return self._reply(Unsubscribed(topic))

    def standing(self, topics: Sequence[str]) -> Actions:
        """Back ends have subscribed the user to these topics, as far as they are told just now."""
        return self._live.standing(topics) if self._live else ()

    def ended(self, topic: str) -> Actions:
        """A back end has ended a topic for the user."""
        return self._live.ended(topic) if self._live else ()

    # -- on the way out ----------------------------------------------------------------------------------------------

    def overdue(self, late_s: float = 0.0) -> Actions:
        """The time of the last `Await` is over, and has been for so long."""
        if self.state is State.CLOSING:
            return ()
        if self.state is State.LIVE and (told := self._token.overdue(late_s)):
            return told
        return self.close(*_OVERDUE[self.state])

    def drained(self, retry_after_ms: int) -> Actions:
        """The edge is stopping, and it is this session's turn to go."""
        if self.state is State.CLOSING:
            return ()
        bye = tell(Bye(Close.DRAINING.reason(), retry_after_ms))
        return bye, *self.close(Close.DRAINING)

    def close(self, close: Closing, detail: str = "") -> Actions:
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

    def let_go(self) -> None:
        """The socket is gone: keep nothing that leads back here."""
        self._outlet = self.places = None

    def _verify(self, token: str) -> Actions:
        self.state = State.VERIFYING
        return Await(self._settings.connect_timeout_s), Verify(token)

    def _close_for(self, problem: BadFrame) -> Actions:
        if self.state is State.CLOSING:
            return ()
        return tell(Error("bad_frame", str(problem))), *self.close(Close.BAD_FRAME, str(problem))


def _brief(seconds: float) -> float:
    """Return 25 for 25.0: it reads better in JSON."""
    return int(seconds) if seconds.is_integer() else seconds
