"""edge.session: the states, and what each event leads to."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.actions import (
    Action,
    Actions,
    Await,
    Disconnect,
    Register,
    Send,
    Verify,
)
from edge.closes import Close
from edge.position import Verdict
from edge.session import Session, State
from edge.upgrade import SUBPROTOCOL, Upgrade
from tests.unit.edge.outlets import feed
from tests.unit.edge.stages import (
    NODE,
    SETTINGS,
    at,
    closes,
    come,
    frames,
    live,
    new,
    only,
    registering,
)


def test_a_token_in_the_header_is_verified_at_once() -> None:
    """And the wait for the answer has an end."""
    actions = new().upgraded(Upgrade("t", {}, ()))
    assert actions == (Await(SETTINGS.connect_timeout_s), Verify("t"))


def test_without_a_header_the_connect_frame_is_awaited() -> None:
    """Its token is then verified like the other."""
    session = new()
    assert session.upgraded(Upgrade(None, {}, ())) == (Await(SETTINGS.connect_timeout_s),)
    assert session.text(b'{"type":"connect","token":"t"}') == (Await(SETTINGS.connect_timeout_s), Verify("t"))
    assert session.state is State.VERIFYING


@pytest.mark.parametrize(
    ("query", "frame", "device"),
    [
        ({}, {}, None),
        ({"device": "a"}, {}, "a"),
        ({}, {"device": "b"}, "b"),
        ({"device": "a"}, {"device": "b"}, "b"),
    ],
)
def test_the_frame_goes_before_the_address(query: dict[str, str], frame: dict[str, str], device: str | None) -> None:
    """A device may be named in either; the frame is the later word."""
    session = new()
    session.upgraded(Upgrade(None, query, ()))
    session.text(json.dumps({"type": "connect", "token": "t", **frame}).encode())
    register = only(Register, session.verified("alice", 60.0))
    assert isinstance(register, Register)
    assert (register.user, register.device, register.position) == ("alice", device, session.position)


def test_the_welcome_comes_first_then_what_was_held() -> None:
    """In one write; the wait that follows is for the notice of the token's end."""
    session = registering()
    assert session.position is not None
    assert session.position.take(10, 11, b'\x81\x0a{"seq":11}') is Verdict.HELD
    actions = come(session, 10)
    assert actions[0] == Await(60.0 - SETTINGS.token_notice_s)
    assert [frame.get("type", frame.get("seq")) for frame in frames(actions)] == ["welcome", 11]
    assert frames(actions)[0] == {
        "type": "welcome",
        "user": "alice",
        "session": session.id,
        "node": NODE,
        "seq": 10,
        "all": 0,
        "heartbeat": 25,
    }
    assert session.state is State.LIVE


@pytest.mark.parametrize(
    ("event", "close"),
    [
        (lambda s: s.upgraded(Upgrade("t", {}, ("other",))), Close.UNKNOWN_SUBPROTOCOL),
        (lambda s: s.upgraded(Upgrade("t", {"device": "a b"}, ())), Close.BAD_FRAME),
        (lambda s: s.text(b"{"), Close.BAD_FRAME),
        (lambda s: s.text(b'{"type":"ping"}'), Close.NOT_AUTHENTICATED),
        (lambda s: s.text(b'{"type":"connect","token":"t","device":"a b"}'), Close.BAD_FRAME),
        (lambda s: s.binary(), Close.BAD_FRAME),
        (lambda s: s.refused("expired"), Close.NOT_AUTHENTICATED),
        (lambda s: s.unverifiable(), Close.OVERLOADED),
        (lambda s: s.expired(), Close.TOKEN_EXPIRED),
        (lambda s: s.overdue(), Close.NOT_AUTHENTICATED),
        (lambda s: s.drained(5), Close.DRAINING),
        (lambda s: s.close(Close.REPLACED), Close.REPLACED),
    ],
)
def test_each_refusal_has_its_code(event: Callable[[Session], Actions], close: Close) -> None:
    """The session is closing then, and the closing handshake has a deadline."""
    session = new()
    actions = event(session)
    assert closes(actions) == [close]
    assert only(Await, actions) == Await(SETTINGS.close_timeout_s)
    assert session.state is State.CLOSING


def test_what_is_overdue_depends_on_the_state() -> None:
    """No frame, no answer from the verifier, no route, and the end of the token."""
    verifying = new()
    verifying.upgraded(Upgrade("t", {}, ()))
    states = {new(): Close.NOT_AUTHENTICATED, verifying: Close.OVERLOADED, registering(): Close.OVERLOADED}
    noticed = live()
    noticed.overdue()
    states[noticed] = Close.TOKEN_EXPIRED
    for session, close in states.items():
        assert closes(session.overdue()) == [close]
        assert session.overdue() == ()


def test_a_newer_token_that_is_judged_too_late() -> None:
    """After the close nobody asks about another that has come meanwhile."""
    session = live()
    session.text(b'{"type":"token","token":"a"}')
    session.text(b'{"type":"token","token":"b"}')
    session.close(Close.DRAINING)
    assert session.verified("alice", 60.0) == ()


def test_bye_comes_before_the_close() -> None:
    """So that a client knows when to come back."""
    actions = live().drained(1380)
    assert frames(actions) == [{"type": "bye", "reason": "draining", "retry_after_ms": 1380}]
    assert isinstance(actions[-1], Disconnect)


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (b'{"type":"ping"}', ["pong"]),
        (b'{"type":"ack","seq":10}', []),
        (b'{"type":"ack","seq":3,"to":"user:alice"}', []),
        (b'{"type":"ack","seq":11}', ["bad_ack"]),
        (b'{"type":"ack","seq":1,"to":"user:bob"}', ["bad_ack"]),
        (b'{"type":"connect","token":"t"}', ["unexpected"]),
        (b'{"type":"ack","seq":0,"to":"all"}', []),
        (b'{"type":"subscribe","topic":"news"}', ["forbidden"]),
        (b'{"type":"unsubscribe","topic":"news"}', ["unsubscribed"]),
    ],
)
def test_a_frame_that_can_be_read_does_not_end_the_session(sent: bytes, answers: list[str]) -> None:
    """It is answered, and a mistake is explained."""
    session = live(head=10)
    actions = session.text(sent)
    assert [frame.get("code", frame["type"]) for frame in frames(actions)] == answers
    assert session.state is State.LIVE


def test_acks_are_cumulative() -> None:
    """A lower one changes nothing."""
    session = live(head=10)
    session.text(b'{"type":"ack","seq":7}')
    session.text(b'{"type":"ack","seq":5}')
    assert session.acked == 7


def test_what_comes_before_the_welcome_is_answered_behind_it() -> None:
    """In its order, and before any message."""
    session = new()
    assert session.upgraded(Upgrade("t", {"topics": "news"}, (SUBPROTOCOL,)))
    assert session.text(b'{"type":"connect","token":"t"}') == ()
    session.verified("alice", 60.0)
    assert session.position is not None
    assert session.text(b'{"type":"ack","seq":0}') == session.text(b'{"type":"ping"}') == ()
    session.position.take(10, 11, b'\x81\x0a{"seq":11}')
    answers = [frame.get("code", frame.get("type", frame.get("seq"))) for frame in frames(come(session, 10))]
    assert answers == ["welcome", "unexpected", "bad_ack", "pong", 11, "forbidden"]
    assert [frame["type"] for frame in frames(session.text(b'{"type":"ping"}'))] == ["pong"]


def test_not_many_answers_are_kept_until_the_welcome() -> None:
    """A client that sends on and on before it is welcome is sent away."""
    session = registering()
    for _ in range(16):
        assert session.text(b'{"type":"ping"}') == ()
    assert closes(session.text(b'{"type":"ping"}')) == [Close.BAD_FRAME]


EVENTS: dict[str, Callable[[Session], Actions]] = {
    "upgraded": lambda s: s.upgraded(Upgrade(None, {}, ())),
    "connect": lambda s: s.text(b'{"type":"connect","token":"t"}'),
    "ping": lambda s: s.text(b'{"type":"ping"}'),
    "verified": lambda s: s.verified("alice", 3_600.0, ["*"]),
    "token": lambda s: s.text(b'{"type":"token","token":"t"}'),
    "refused": lambda s: s.refused("no"),
    "unverifiable": lambda s: s.unverifiable(),
    "registered": lambda s: s.registered(5),
    "heard": lambda s: s.heard(feed()),
    "subscribe": lambda s: s.text(b'{"type":"subscribe","topic":"news"}'),
    "news": lambda s: s.heard(feed("topic:news")),
    "unsubscribe": lambda s: s.text(b'{"type":"unsubscribe","topic":"news"}'),
    "answered": lambda s: s.answered(0.0),
    "proved": lambda s: s.proved(5),
    "rival": lambda s: s.replaced(6, "other"),
    "resumed": lambda s: s.resumed(at(5)),
    "cursorless": lambda s: s.resumed(None),
    "overdue": lambda s: s.overdue(),
    "replaced": lambda s: s.close(Close.REPLACED),
    "drained": lambda s: s.drained(1),
    "left": lambda s: s.left(),
}


@given(st.lists(st.sampled_from(sorted(EVENTS)), max_size=12), st.booleans())
def test_whatever_happens_a_session_closes_once_and_is_silent_after(events: list[str], device: bool) -> None:
    """Late answers find nobody; a session is welcomed at most once, and only after a good token."""
    session, actions = new(), list[Action]()
    closed_at = None
    for event in events:
        # Only the first event of a connection is its upgrade.
        if event == "upgraded" and actions:
            done: Actions = ()
        elif event == "upgraded" and device:
            done = session.upgraded(Upgrade(None, {"device": "phone"}, ()))
        else:
            done = EVENTS[event](session)
        if closed_at is not None:
            assert done == ()
        actions += done
        if session.state is State.CLOSING and closed_at is None:
            closed_at = len(actions)
    assert len(closes(tuple(actions))) <= 1
    welcomes = [frame for frame in frames(tuple(actions)) if frame["type"] == "welcome"]
    assert len(welcomes) <= 1
    if welcomes:
        assert {"connect", "verified", "registered", "heard"} <= set(events)


@pytest.mark.parametrize("sent", ['{"type":"%s"}', '{"type":"ping","%s":1}', '{"type":"ack","seq":1,"to":"%s"}'])
def test_a_client_is_not_shown_all_that_it_sent(sent: str) -> None:
    """A frame may be all name: what is said of it is short."""
    (send, *_) = live().text((sent % ("x" * 60_000)).encode())
    assert isinstance(send, Send)
    assert len(send.data) < 400
