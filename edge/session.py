"""One session, from the upgrade to the close: a state machine without I/O.

             upgraded               verified             registered          resumed
    AWAITING ─────────▶ VERIFYING ────────────▶ REGISTERING ──────▶ RESUMING ───────▶ LIVE
        │   (token in       │ refused,              │  │  overdue       │               │ token expired, replaced,
        │    header or      │ keys unavailable      │  └────────────────┼──────────────▶│ slow, draining …
        │    connect frame) │                       │   no cursor to look up            │
        └───────────────────┴──────────▶ CLOSING ◀──┴───────────────────┴───────────────┘

In RESUMING the session waits for the feed of `all`, which nearly always stands, and a device that does not say itself what it
has is looked up: once the heads are known, so that nothing lies between the two. A device that nobody knows begins at the head,
and its cursors are stored before it is welcome: from the welcome on it is owed everything, whatever becomes of this edge.

Theory of operation: whoever owns the socket calls a method for each thing that happened, and carries out the actions that
it returns, in order. What comes too late for the state the session is in (a token verified after the close, say) returns
no actions. `Await` replaces the deadline before it, and stands first, for carrying out the others may end the session and
set another one; when the deadline passes, call `overdue`.

The welcome is the first that a client hears, but for a refusal: what it sends before is answered behind it.

Of the sessions of a device one is to stay, and a session that its client has given up must not be that one. A connect frame
may have waited, in the socket of an edge that was frozen, until long after its client went elsewhere. So the welcome of a
device is followed by a ping, and only who answers it replaces others (`edge.replaced`):

    LIVE ── Challenge ──▶ answered ── Prove ──▶ proved: from now on the session with the latest proof stays
                ▲             │
                └─────────────┘ too late to say anything of now

The end of its token ends a session, and its client is told before (`edge.term`):

    LIVE ── overdue ──▶ `expiring` ── overdue ──▶ CLOSING
      ▲                     │
      └─ verified ── Verify ┘ a newer token, at any time: the session goes on, whatever the answer

Messages do not come through here but straight to the session's position, which is the hot path; the session says when
the position may start. Those of `all` and of topics (`edge.subscriptions`) come through feeds, which the session joins.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import Final

from edge.actions import (
    FIND_STANDING,
    Actions,
    Await,
    CatchUp,
    Challenge,
    Disconnect,
    FindCursor,
    Hear,
    MoveCursor,
    Prove,
    Register,
    Send,
    Verify,
)
from edge.client_frames import (
    NO_OPTIONS,
    OWN,
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
from edge.feed import Feed, Hearing
from edge.frames import Bye, CaughtUp, Error, Expiring, Extended, Pong, ServerFrame, Unsubscribed, Welcome, encode
from edge.handshake import SUBPROTOCOL, Upgrade
from edge.origins import is_allowed
from edge.position import Outlet, Position
from edge.subscriptions import Subscriptions, begin_hearing
from edge.term import Term, first_term, in_frame, next_term
from edge.wishes import first_cursor, lost, merged, not_from_the_future
from router.auth.tokens import TOKEN_MAX_CHARS
from router.cursors import CursorKey
from router.settings import Settings
from router.targets import ALL, TOPIC_PREFIX, USER_PREFIX


class State(Enum):
    """How far a session has come."""

    AWAITING = auto()
    VERIFYING = auto()
    REGISTERING = auto()
    RESUMING = auto()
    LIVE = auto()
    CLOSING = auto()


_OVERDUE = {
    State.AWAITING: (Close.NOT_AUTHENTICATED, "no connect frame in time"),
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
        position: the place in the user's own order; None until the token is verified.
        acked: the highest seq that the client has acknowledged, or came with.
    """

    __slots__ = (
        "_all",
        "_all_feed",
        "_early",
        "_ends_in_s",
        "_granted",
        "_head",
        "_left",
        "_looked",
        "_newer",
        "_node",
        "_options",
        "_outlet",
        "_patterns",
        "_proof",
        "_registered_us",
        "_rival",
        "_settings",
        "_topics",
        "acked",
        "id",
        "position",
        "state",
        "user",
    )

    def __init__(self, settings: Settings, node: str, outlet: Outlet) -> None:
        self.state = State.AWAITING
        self.id = secrets.token_hex(8)
        self.user = ""
        self.position: Position | None = None
        self.acked = 0
        self._settings = settings
        self._node = node
        self._outlet: Outlet | None = outlet
        self._options = NO_OPTIONS
        self._early: tuple[bytes, ...] = ()
        self._head = 0
        self._patterns: Sequence[str] = ()
        self._granted: Sequence[str] = ()
        self._left: Sequence[str] = ()
        self._looked = False
        self._all_feed: Feed | None = None
        self._all: Hearing | None = None
        self._topics: Subscriptions | None = None
        self._registered_us = 0
        self._proof: tuple[int, str] | None = None
        self._rival = (0, "")
        # Until the welcome, how long the token is good; from then on, how much of that is left when the present wait is over.
        self._ends_in_s = math.inf
        # A token to be asked about when the question about another is over; "" while there is none, None without a question.
        self._newer: str | None = None

    @property
    def cursor(self) -> CursorKey | None:
        """The cursor that acks move; None for a session without a device, or without a user yet."""
        device = self._options.device
        return CursorKey(self.user, device, USER_PREFIX + self.user) if device is not None and self.user else None

    @property
    def names(self) -> tuple[str, ...]:
        """What a producer calls it by who has a message pass it by."""
        session, device = f"session:{self.id}", self._options.device
        return (session,) if device is None else (session, f"device:{self.user},{device}")

    @property
    def cursors(self) -> list[CursorKey]:
        """All cursors that acks move: of the user's own messages, of `all` and of topics."""
        key = self.cursor
        if key is None:
            return []
        return [key, *(key._replace(target=hearing.feed.position.target) for hearing in self.hearings)]

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

    def verified(self, user: str, valid_s: float, patterns: Sequence[str] = (), granted: Sequence[str] = ()) -> Actions:
        """The token is good: it proves `user`, for another `valid_s` seconds, and grants topics. So does a newer one.

        Args:
            user: who it is.
            valid_s: seconds.
            patterns: of topics that the client may ask for.
            granted: topics that it need not ask for.
        """
        if self._outlet is None:
            return ()
        if self.state is State.LIVE and self._newer is not None:
            return self._ask_next() or self._extend(self._outlet, user, valid_s, patterns, granted)
        if self.state is not State.VERIFYING:
            return ()
        self.state = State.REGISTERING
        self.user = user
        self._ends_in_s = valid_s
        self._patterns, self._granted = patterns, granted
        self.position = Position(self._outlet, USER_PREFIX + user, self._settings.send_buffer_max_bytes)
        return Await(self._settings.redis_timeout_s), Register(user, self._options.device, self.position)

    def refused(self, reason: str) -> Actions:
        """The token proves nothing."""
        if self.state is State.LIVE:
            return self._keep_token(Error("bad_token", f"token: {reason}"))
        return self.close(Close.NOT_AUTHENTICATED, reason)

    def expired(self) -> Actions:
        """The token was good once."""
        if self.state is State.LIVE:
            return self._keep_token(Error("bad_token", "token: it has expired"))
        return self.close(Close.TOKEN_EXPIRED)

    def unverifiable(self) -> Actions:
        """There is no key to check the token with: it may be good, so the client is to come again."""
        if self.state is State.LIVE:
            return self._keep_token(Error("unavailable", "token: there is no key to check it with just now"))
        return self.close(Close.OVERLOADED, "no key to check the token with")

    def routed(self, at_us: int) -> None:
        """The route is written, at this time by Redis' clock."""
        self._registered_us = at_us

    def registered(self, head: int) -> Actions:
        """The route is written and `head` read after that."""
        if self.state is not State.REGISTERING:
            return ()
        self._head = head
        self.state = State.RESUMING
        return Await(self._settings.redis_timeout_s), Hear(ALL)

    def heard(self, feed: Feed) -> Actions:
        """A feed that was asked for may be joined."""
        if feed.position.target != ALL:
            return self._topics.heard(feed, self._registered_us) if self._topics and self.state is State.LIVE else ()
        if self.state is not State.RESUMING:
            return ()
        self._all_feed = feed
        unknown = self._unknown_cursors(feed)
        return (FindCursor(unknown),) if unknown else self._begin({})

    def _unknown_cursors(self, feed: Feed) -> dict[CursorKey, int]:
        """Return the cursors of the device that the client does not give itself, and where they begin if nobody has them."""
        device = self._options.device
        if device is None:
            return {}
        heads = {OWN: (USER_PREFIX + self.user, self._head), ALL: (ALL, feed.head)}
        return {
            CursorKey(self.user, device, target): first_cursor(head, self._registered_us, self._settings.retention_s)
            for name, (target, head) in heads.items()
            if name not in self._options.since
        }

    def resumed(self, cursors: Mapping[CursorKey, int] | None) -> Actions:
        """Cursors of the device are read, or begun; None when that cannot be done now."""
        if self.state not in {State.RESUMING, State.LIVE}:
            return ()
        if cursors is None:
            return self.close(Close.OVERLOADED, "the cursor cannot be read just now")
        found = {key.target: seq for key, seq in cursors.items()}
        if self.state is State.RESUMING:
            return self._begin(found)
        return tuple(action for target, seq in found.items() for action in self._topics_found(target, seq))

    def _begin(self, found: Mapping[str, int]) -> Actions:
        """Welcome the client, and begin behind what it said, or what was `found` of its device; else at the heads."""
        position, feed, outlet = self.position, self._all_feed, self._outlet
        if position is None or feed is None or outlet is None:
            return ()
        self.state = State.LIVE
        head, said = self._head, self._options.since
        # The cursor of a device that is new, or was, may lie above the head (`first_cursor`); what follows is behind the head.
        since = said.get(OWN, min(found[position.target], head) if position.target in found else None)
        welcome = encode(Welcome(self.user, self.id, self._node, head, feed.head, _brief(self._settings.heartbeat_s)))
        frames = position.start(head) if since is None else self._begin_behind(position, since)
        own = () if position.goal is None else (CatchUp(position, since is not None),)
        all_since = said.get(ALL, min(found[ALL], feed.head) if ALL in found else None)
        # Few are sent anything as `all`: who did not ask hears of it when there is something.
        self._all, told, then = begin_hearing(feed, outlet, all_since, self._settings.retention_s, asked=ALL in said)
        early, self._early = self._early, ()
        wait, notice = self._last(first_term(self._ends_in_s, self._settings.token_notice_s))
        data = b"".join([welcome, *early, *frames, *map(encode, [*told, *notice])])
        return (
            wait,
            Send(data),
            *self._challenge(),
            *self._move_cursors(),
            *own,
            *then,
            FIND_STANDING,
            *self._subscribe_all(self._options.topics),
            *(self._make_topics(outlet).given() if self._granted else ()),
        )

    def _begin_behind(self, position: Position, since: int) -> list[bytes]:
        since = self.acked = not_from_the_future(since, self._head)
        frames = [encode(frame) for frame in lost(position.target, since, self._head, self._settings.retention_s)]
        frames += position.start_after(since, self._head)
        if position.goal is None:
            frames.append(encode(CaughtUp(position.target, since)))
        return frames

    def _move_cursors(self) -> Actions:
        """Note what the client came with as its device's; what was looked up is there already."""
        key, said = self.cursor, self._options.since
        if key is None:
            return ()
        own = (MoveCursor(key, self.acked),) if OWN in said else ()
        if ALL not in said or self._all is None:
            return own
        return *own, MoveCursor(key._replace(target=ALL), self._all.at)

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
        self._proof = (at_us, self.id)
        return self.replaced(*self._rival)

    def replaced(self, at_us: int, session: str) -> Actions:
        """That session of this device, here or elsewhere, was proved alive at that time; the later one stays."""
        self._rival = max(self._rival, (at_us, session))
        if self._proof is None or self._rival <= self._proof:
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
        problem = self._problem_with(ack)
        if problem:
            return self._reply(Error("bad_ack", f"ack: {problem}"))
        key = self.cursor
        if ack.to is None or ack.to == USER_PREFIX + self.user:
            if ack.seq <= self.acked:
                return ()
            self.acked = ack.seq
        elif key is not None:
            key = key._replace(target=ack.to)
        return () if key is None else (MoveCursor(key, ack.seq),)

    def _problem_with(self, ack: Ack) -> str:
        sent = self._sent(USER_PREFIX + self.user if ack.to is None else ack.to)
        if sent is None:
            return f"nothing was sent of {ack.to or 'anything'}"
        return f"{ack.seq} is beyond what was sent ({sent})" if ack.seq > sent else ""

    def _sent(self, target: str) -> int | None:
        """Return the last seq of a target that was put out to the client; None of one that the session does not hear."""
        if self.state is not State.LIVE or self.position is None:
            return None
        if target == self.position.target:
            return self.position.at
        hearing = self._all if target == ALL else self._topics and self._topics.hearings.get(target)
        return hearing.at if hearing else None

    def _reply(self, answer: ServerFrame) -> Actions:
        if self.state is State.LIVE:
            return (_send(answer),)
        if len(self._early) == _EARLY_MAX:
            return self._close_for(BadFrame(f"more than {_EARLY_MAX} frames before the welcome"))
        self._early += (encode(answer),)
        return ()

    # -- a newer token -----------------------------------------------------------------------------------------------

    def _renew(self, token: str) -> Actions:
        """Have a newer token checked, one at a time: of several, the last is answered."""
        if self.state is not State.LIVE:
            return self._reply(Error("unexpected", "token: the first one is still being looked at"))
        if len(token) > TOKEN_MAX_CHARS:  # kept by thousands while auth is away, they would fill the memory
            return self._reply(Error("bad_token", f"token: it is longer than {TOKEN_MAX_CHARS} characters"))
        if self._newer is not None:
            self._newer = token
            return ()
        self._newer = ""
        return (Verify(token),)

    def _ask_next(self) -> Actions:
        """The question is over: ask about a token that has come meanwhile. Nothing is returned where the answer counts."""
        token, self._newer = self._newer, None
        return self._renew(token) if token else ()

    def _keep_token(self, why: Error) -> Actions:
        """A newer token does not do: the one before holds, and ends when it ends."""
        return () if self._newer is None else self._ask_next() or (_send(why),)

    def _extend(self, outlet: Outlet, user: str, valid_s: float, patterns: Sequence[str], granted: Sequence[str]) -> Actions:
        if user != self.user:
            return (_send(Error("forbidden", "token: it is of another user")),)
        self._patterns, self._granted = patterns, granted
        wait, notice = self._last(next_term(valid_s, self._settings.token_notice_s))
        frames: list[ServerFrame] = [Extended(in_frame(valid_s)), *notice]
        if self._topics is None:
            given = self._make_topics(outlet).given() if granted else ()
        else:
            given = self._topics.regranted(patterns, granted)
        return wait, *map(_send, frames), *given

    # -- topics ------------------------------------------------------------------------------------------------------

    @property
    def hearings(self) -> list[Hearing]:
        """The feeds that the session has joined."""
        mine = [] if self._all is None else [self._all]
        return mine + (list(self._topics.hearings.values()) if self._topics else [])

    @property
    def wished(self) -> list[str]:
        """The targets that it may wait to hear of."""
        return [ALL, *(self._topics.wished if self._topics else ())]

    def _subscribe(self, topic: str, since: int | None, *, presence: bool = False) -> Actions:
        if self.state is not State.LIVE or self._outlet is None:
            return self._keep_wish(topic, since, presence=presence)
        return self._make_topics(self._outlet).subscribe(topic, since, presence=presence)

    def standing(self, topics: Sequence[str]) -> Actions:
        """Back ends have subscribed the user to these topics, as far as they are told just now."""
        if self.state is not State.LIVE or self._outlet is None:
            return ()
        self._looked = True
        # Nearly everybody has none.
        return self._make_topics(self._outlet).standing(topics) if topics or self._topics else ()

    def ended(self, topic: str) -> Actions:
        """A back end has ended a topic for the user."""
        return self._topics.ended(topic) if self._topics and self.state is State.LIVE else ()

    def _make_topics(self, outlet: Outlet) -> Subscriptions:
        """Return the session's topics; most sessions have none."""
        if self._topics is None:
            options = self._options
            said = {name: seq for name, seq in options.since.items() if name.startswith(TOPIC_PREFIX)}
            self._topics = Subscriptions(
                self._settings, outlet, self.user, options.device, self._patterns, said, self._granted, self._left
            )
            if self._looked:
                self._topics.standing(())
        return self._topics

    def _keep_wish(self, topic: str, since: int | None, *, presence: bool) -> Actions:
        """Have a topic that is asked for before the welcome subscribed behind it."""
        options = self._options
        if len(options.topics) >= self._settings.subscriptions_session_max + _EARLY_MAX:
            return self._close_for(BadFrame(f"more than {_EARLY_MAX} frames before the welcome"))
        self._left = tuple(name for name in self._left if name != topic)
        said = {} if since is None else {TOPIC_PREFIX + topic: since}
        watched = options.watched | {topic} if presence else options.watched
        self._options = replace(options, topics=(*options.topics, topic), since={**options.since, **said}, watched=watched)
        return ()

    def _subscribe_all(self, topics: Sequence[str]) -> Actions:
        watched = self._options.watched
        return tuple(action for topic in topics for action in self._subscribe(topic, None, presence=topic in watched))

    def _unsubscribe(self, topic: str) -> Actions:
        if self.state is State.LIVE and self._outlet is not None:
            return self._make_topics(self._outlet).unsubscribe(topic)
        self._left = (*self._left, topic)
        options = self._options
        topics = tuple(name for name in options.topics if name != topic)
        self._options = replace(options, topics=topics, watched=options.watched - {topic})
        return self._reply(Unsubscribed(topic))

    def _topics_found(self, target: str, cursor: int) -> Actions:
        return self._topics.found(target, cursor) if self._topics else ()

    # -- on the way out ----------------------------------------------------------------------------------------------

    def overdue(self, late_s: float = 0.0) -> Actions:
        """The time of the last `Await` is over, and has been for so long."""
        if self.state is State.CLOSING:
            return ()
        left_s = self._ends_in_s - late_s
        if self.state is State.LIVE and left_s > 0:
            wait, notice = self._last(Term(0.0, left_s))
            return wait, *map(_send, notice)
        return self.close(*_OVERDUE[self.state])

    def _last(self, term: Term) -> tuple[Await, tuple[Expiring, ...]]:
        """Return what is to be waited for, and what the client is told now: that the end is near, if it is."""
        if term.quiet_s > 0:
            self._ends_in_s = term.notice_s
            return Await(term.quiet_s), ()
        self._ends_in_s = 0.0
        return Await(term.notice_s), (Expiring(in_frame(term.notice_s)),)

    def drained(self, retry_after_ms: int) -> Actions:
        """The edge is stopping, and it is this session's turn to go."""
        if self.state is State.CLOSING:
            return ()
        bye = _send(Bye(Close.DRAINING.reason(), retry_after_ms))
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
        self._outlet = self.position = self._all = self._all_feed = self._topics = None

    def _verify(self, token: str) -> Actions:
        self.state = State.VERIFYING
        return Await(self._settings.connect_timeout_s), Verify(token)

    def _close_for(self, problem: BadFrame) -> Actions:
        if self.state is State.CLOSING:
            return ()
        return _send(Error("bad_frame", str(problem))), *self.close(Close.BAD_FRAME, str(problem))


def _brief(seconds: float) -> float:
    """Return 25 for 25.0: it reads better in JSON."""
    return int(seconds) if seconds.is_integer() else seconds


def _send(frame: ServerFrame) -> Send:
    return Send(encode(frame))
