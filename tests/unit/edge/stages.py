"""Sessions brought to some point of their life, and what their actions say."""

from __future__ import annotations

import json
import time

from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.protocol import State as WireState
from websockets.uri import parse_uri

from edge.actions import (
    Action,
    Actions,
    Await,
    Disconnect,
    Hear,
    Send,
)
from edge.closes import Closing
from edge.places import Places
from edge.session import Session
from edge.upgrade import SUBPROTOCOL, Upgrade
from router.cursors import CursorKey
from router.settings import Settings
from router.targets import ALL
from tests.unit.edge.outlets import KeptOutlet, feed

SETTINGS = Settings()

NODE = "edge-1.k3f9"

NOW_SEQ = time.time_ns() // 1_000

PHONE = CursorKey("alice", "phone", "user:alice")

PHONE_ALL = PHONE._replace(target=ALL)


def new() -> Session:
    """Return a session that nothing has happened to."""
    return Session(SETTINGS, NODE, KeptOutlet())


def registering(**query: str) -> Session:
    """Return a session whose token was good."""
    session = new()
    session.upgraded(Upgrade("t", query, (SUBPROTOCOL,)))
    session.verified("alice", 60.0)
    return session


def come(session: Session, head: int, all_head: int = 0) -> Actions:
    """Tell a session its head, and that it may join the feed of `all`; return what it does behind that."""
    assert session.registered(head) == (Await(SETTINGS.redis_timeout_s), Hear(ALL))
    return session.heard(feed(ALL, all_head))


def live(head: int = 10, *topics: str) -> Session:
    """Return a session that has had its welcome, with a token that grants these topics."""
    session = new()
    session.upgraded(Upgrade("t", {}, (SUBPROTOCOL,)))
    session.verified("alice", 60.0, topics)
    come(session, head)
    return session


def live_phone() -> Session:
    """Return a session of a device that has had its welcome."""
    session = registering(device="phone")
    come(session, NOW_SEQ)
    session.resumed(at(NOW_SEQ))
    return session


def at(seq: int) -> dict[CursorKey, int]:
    """Return where the phone's cursors stand: its own there, that of `all` at the beginning, of which there is nothing."""
    return {PHONE: seq, PHONE_ALL: 0}


def frames(actions: Actions) -> list[dict[str, object]]:
    """Return the JSON of all frames sent."""
    client = ClientProtocol(parse_uri("ws://localhost/"), state=WireState.OPEN)
    for action in actions:
        if isinstance(action, Send):
            client.receive_data(action.data)
    return [json.loads(bytes(event.data)) for event in client.events_received() if isinstance(event, Frame)]


def closes(actions: Actions) -> list[Closing]:
    """Return how the connection is closed."""
    return [action.close for action in actions if isinstance(action, Disconnect)]


def only(kind: type[Action], actions: Actions) -> Action:
    """Return the one action of this kind."""
    (found,) = [action for action in actions if isinstance(action, kind)]
    return found


def places(session: Session) -> Places:
    """Return where a session stands."""
    assert session.places is not None
    return session.places
