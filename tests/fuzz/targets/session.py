"""A session obeys whatever its client sends, in text messages: every answer is a frame of the protocol, every close documented.

The first byte says how far the session has come, and with what grants. What follows are text messages, a NUL between them.
"""

from __future__ import annotations

import json
from typing import Final

from edge.actions import Action, Actions, Disconnect, FindCursor, Hear, Register, Send, Verify
from edge.closes import Close
from edge.feed import Feed
from edge.frames import text_frame
from edge.session import Session, State
from edge.upgrade import SUBPROTOCOL, Upgrade
from router.settings import Settings
from router.targets import ALL
from tests.unit.edge.outlets import KeptOutlet, feed

_SETTINGS: Final = Settings(subscriptions_session_max=5)
_HEAD: Final = 1_000
_CODES: Final = frozenset({Close.BAD_FRAME, Close.NOT_AUTHENTICATED, Close.TOKEN_EXPIRED, Close.OVERLOADED})
_TYPES: Final = frozenset(
    {"welcome", "caught_up", "lost", "subscribed", "unsubscribed", "members", "expiring", "extended", "error", "pong"}
)
_ERRORS: Final = frozenset({"bad_frame", "unexpected", "bad_ack", "bad_token", "unavailable", "forbidden", "too_many_topics"})

_CONNECT: Final = b'{"type":"connect","token":"good","device":"phone","since":{"user":5,"topic:a":3},"topics":["a","b"]}'

SEEDS: Final = (
    b"\x00" + _CONNECT + b'\0{"type":"ack","seq":6}\0{"type":"subscribe","topic":"c","since":5,"presence":true}',
    b'\x01{"type":"ping"}\0{"type":"subscribe","topic":"a"}\0{"type":"ack","seq":1000,"to":"topic:a"}',
    b'\x02{"type":"token","token":"good"}\0{"type":"token","token":"old"}\0{"type":"token","token":"bad"}',
    b"\x03" + _CONNECT,
    b'\x05{"type":"unsubscribe","topic":"a"}\0{"type":"unsubscribe","topic":"zz"}',
    b'\x09{"type":"subscribe","topic":"a"}\0' * 8,
    b"\x09" + b"\0".join(b'{"type":"subscribe","topic":"%d"}' % at for at in range(9)),
    b'\x04{"type":"ping"}\0' * 20,
    b'\x01{"type":"ack","seq":1001}\0{"type":"ack","seq":1,"to":"all"}\0{"type":"ack","seq":1,"to":"user:bob"}',
)


class _Edge:
    """Carries out at once what a session asks for, and keeps what it says.

    Attributes:
        said: frames, decoded.
        closes: why it closed.
    """

    def __init__(self, session: Session, choice: int) -> None:
        self.said: list[dict[str, object]] = []
        self.closes: list[Close] = []
        self._session = session
        self._feeds: dict[str, Feed] = {}
        self._slow = bool(choice & 4)
        self._topics = ["*"] if choice & 8 else ["a", "b*"]

    def carry_out(self, actions: Actions) -> None:
        """Carry out all of it, and what follows from that."""
        for action in actions:
            self.carry_out(self._answer(action))

    def _answer(self, action: Action) -> Actions:
        session = self._session
        match action:
            case Send(data):
                self._note(data)
            case Disconnect(close, detail):
                assert isinstance(close, Close)
                assert len(close.reason(detail).encode()) <= 123
                self.closes.append(close)
            case Verify(token) if not self._slow:
                return self._verified(token)
            case Register():
                session.routed(_HEAD)
                return session.registered(_HEAD)
            case Hear(target):
                return session.heard(self._feeds.setdefault(target, feed(target, _HEAD)))
            case FindCursor(begin_at):
                return session.resumed(dict(begin_at))
        return ()

    def _verified(self, token: str) -> Actions:
        if token == "good":  # noqa: S105 - no secret
            return self._session.verified("alice", 60.0, self._topics, ["given"])
        return self._session.expired() if token == "old" else self._session.refused("no good")  # noqa: S105 - likewise

    def _note(self, data: bytes) -> None:
        """Keep frames that were sent: each is whole, known, and exactly as `text_frame` has it."""
        while data:
            length, at = data[1], 2
            if length == 126:
                length, at = int.from_bytes(data[2:4], "big"), 4
            payload = data[at : at + length]
            assert data.startswith(text_frame(payload))
            assert b"\n" not in payload
            self.said.append(json.loads(payload))
            data = data[at + length :]


def _session(choice: int) -> tuple[Session, _Edge]:
    """Return a session that awaits a token, is live, or waits for the judge of its token."""
    session = Session(_SETTINGS, "edge-1.k3f9", KeptOutlet())
    edge = _Edge(session, choice)
    token = "good" if choice & 1 else None
    edge.carry_out(session.upgraded(Upgrade(token, {"device": "phone"} if choice & 2 else {}, (SUBPROTOCOL,))))
    return session, edge


def run(data: bytes) -> None:
    """Send the messages, and look at all that comes back."""
    session, edge = _session(data[0] if data else 0)
    for message in data[1:].split(b"\0"):
        before = len(edge.said)
        edge.carry_out(session.text(message))
        if session.state is State.CLOSING:
            break
        # A bound on what a rude client has sent to itself.
        assert len(edge.said) - before <= 8 + message.count(b","), edge.said[before:]
    assert len(edge.closes) <= 1
    assert set(edge.closes) <= _CODES
    for frame in edge.said:
        assert frame["type"] in _TYPES, frame
        assert frame["type"] != "error" or frame["code"] in _ERRORS, frame
        assert len(str(frame)) < 2_000, "more than a client is shown again"
    if places := session.places:
        joined = [hearing.feed.position.target for hearing in places.hearings]
        assert len(joined) == len(set(joined))
        assert len(set(joined) - {ALL}) <= _SETTINGS.subscriptions_session_max
    edge.carry_out(session.left())
    session.let_go()
