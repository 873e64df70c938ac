"""edge.session: the states, and what each event leads to."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.protocol import State as WireState
from websockets.uri import parse_uri

from edge.actions import (
    Action,
    Actions,
    Await,
    CatchUp,
    Challenge,
    Disconnect,
    FindCursor,
    MoveCursor,
    Prove,
    Register,
    Send,
    Verify,
)
from edge.closes import Close
from edge.handshake import SUBPROTOCOL, Upgrade
from edge.position import Verdict
from edge.session import Session, State
from router.cursors import CursorKey
from router.settings import Settings
from tests.unit.edge.outlets import KeptOutlet

SETTINGS = Settings()
NODE = "edge-1.k3f9"


def new() -> Session:
    """Return a session that nothing has happened to."""
    return Session(SETTINGS, NODE, KeptOutlet())


def registering(**query: str) -> Session:
    """Return a session whose token was good."""
    session = new()
    session.upgraded(Upgrade("t", query, (SUBPROTOCOL,)))
    session.verified("alice", 60.0)
    return session


def live(head: int = 10) -> Session:
    """Return a session that has had its welcome."""
    session = registering()
    session.registered(head)
    return session


def frames(actions: Actions) -> list[dict[str, object]]:
    """Return the JSON of all frames sent."""
    client = ClientProtocol(parse_uri("ws://localhost/"), state=WireState.OPEN)
    for action in actions:
        if isinstance(action, Send):
            client.receive_data(action.data)
    return [json.loads(bytes(event.data)) for event in client.events_received() if isinstance(event, Frame)]


def closes(actions: Actions) -> list[Close]:
    """Return how the connection is closed."""
    return [action.close for action in actions if isinstance(action, Disconnect)]


def only(kind: type[Action], actions: Actions) -> Action:
    """Return the one action of this kind."""
    (found,) = [action for action in actions if isinstance(action, kind)]
    return found


# -- on the way in -------------------------------------------------------------------------------------------------------


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
    """In one write; the wait that follows is for the end of the token."""
    session = registering()
    assert session.position is not None
    assert session.position.take(10, 11, b'\x81\x0a{"seq":11}') is Verdict.HELD
    actions = session.registered(10)
    assert actions[0] == Await(60.0)
    assert [frame.get("type", frame.get("seq")) for frame in frames(actions)] == ["welcome", 11]
    assert frames(actions)[0] == {
        "type": "welcome",
        "user": "alice",
        "session": session.id,
        "node": NODE,
        "seq": 10,
        "heartbeat": 25,
    }
    assert session.state is State.LIVE


NOW_SEQ = time.time_ns() // 1_000


def test_client_that_has_all() -> None:
    """Its cursor is the head: it is caught up as soon as it is live."""
    actions = registering(since=str(NOW_SEQ)).registered(NOW_SEQ)
    assert frames(actions)[1:] == [{"type": "caught_up", "to": "user:alice", "seq": NOW_SEQ}]
    assert not [action for action in actions if isinstance(action, CatchUp)]


def test_client_that_missed_something() -> None:
    """It is caught up first, and told when that is done."""
    session = registering(since=str(NOW_SEQ))
    actions = session.registered(NOW_SEQ + 5)
    assert [frame["type"] for frame in frames(actions)] == ["welcome"]
    assert session.position is not None
    assert only(CatchUp, actions) == CatchUp(session.position, announce=True)
    assert (session.position.at, session.position.goal) == (NOW_SEQ, NOW_SEQ + 5)


def test_cursor_older_than_what_is_kept() -> None:
    """The client is told from where to where something may be gone; 0 asks for what there is, and misses nothing."""
    (_, lost) = frames(registering(since="5").registered(NOW_SEQ))
    assert (lost["type"], lost["to"], lost["from"]) == ("lost", "user:alice", 5)
    until = lost["until"]
    assert isinstance(until, int)
    assert abs(time.time() - SETTINGS.retention_s - until / 1_000_000) < 60
    assert [frame["type"] for frame in frames(registering(since="0").registered(NOW_SEQ))] == ["welcome"]


# -- a device ------------------------------------------------------------------------------------------------------------

PHONE = CursorKey("alice", "phone", "user:alice")


def test_a_device_without_since_goes_on_where_it_stopped() -> None:
    """The cursor is looked up behind the head, with a deadline of its own; nothing is sent before it is known."""
    session = registering(device="phone")
    session.routed(NOW_SEQ + 9)
    actions = session.registered(NOW_SEQ + 5)
    assert actions == (Await(SETTINGS.redis_timeout_s), FindCursor(PHONE, NOW_SEQ + 5))
    assert session.position is not None
    assert session.position.take(NOW_SEQ + 5, NOW_SEQ + 6, b"x") is Verdict.HELD
    actions = session.resumed(NOW_SEQ)
    assert [frame["type"] for frame in frames(actions)] == ["welcome"]
    assert frames(actions)[0]["seq"] == NOW_SEQ + 5
    assert only(CatchUp, actions) == CatchUp(session.position, announce=True)
    assert (session.position.at, session.position.goal) == (NOW_SEQ, NOW_SEQ + 6)
    assert not [action for action in actions if isinstance(action, MoveCursor)]


def test_a_device_that_has_all_is_caught_up_at_once() -> None:
    """As a client is that says so itself."""
    session = registering(device="phone")
    session.registered(NOW_SEQ)
    assert [frame["type"] for frame in frames(session.resumed(NOW_SEQ))] == ["welcome", "caught_up"]


def test_a_cursor_above_the_head_is_clamped() -> None:
    """It is not of this cluster, or of a device that had nothing to begin from; what comes follows the head."""
    session = registering(device="phone")
    session.registered(NOW_SEQ)
    session.resumed(NOW_SEQ * 2)
    assert session.position is not None
    assert session.position.at == NOW_SEQ
    assert session.position.take(NOW_SEQ, NOW_SEQ + 1, b"x") is Verdict.DELIVER


def test_a_devices_cursor_older_than_what_is_kept() -> None:
    """The device is told what it may have lost."""
    session = registering(device="phone")
    session.registered(NOW_SEQ)
    assert [frame["type"] for frame in frames(session.resumed(5))] == ["welcome", "lost"]


@pytest.mark.parametrize("head", [0, 5])
def test_a_new_device_is_not_remembered_in_the_far_past(head: int) -> None:
    """Or it would be told of a loss when it comes back, though nothing was sent; what it gets now follows the head."""
    session = registering(device="phone")
    session.routed(NOW_SEQ)
    find = only(FindCursor, session.registered(head))
    assert isinstance(find, FindCursor)
    assert find.begin_at == NOW_SEQ - SETTINGS.retention_s / 2 * 1_000_000
    assert session.position is not None
    assert frames(session.resumed(find.begin_at))[1:] == [{"type": "caught_up", "to": "user:alice", "seq": head}]
    assert session.position.take(head, head + 1, b"x") is Verdict.DELIVER


def live_phone() -> Session:
    """Return a session of a device that has had its welcome."""
    session = registering(device="phone")
    session.registered(NOW_SEQ)
    session.resumed(NOW_SEQ)
    return session


def test_a_device_is_challenged_right_behind_its_welcome() -> None:
    """Before anything else is asked for; a session without a device replaces nobody and is not."""
    for query in ({"device": "phone"}, {"device": "phone", "since": "0"}):
        session = registering(**query)
        actions = session.registered(NOW_SEQ)
        if session.state is State.RESUMING:
            actions = session.resumed(0)
        assert [type(action) for action in actions][:3] == [Await, Send, Challenge]
    assert Challenge() not in registering().registered(10)


def test_an_answer_proves_a_session_that_is_live() -> None:
    """One that comes too late is of a client that may be elsewhere by now, and is asked for again."""
    assert registering(device="phone").answered(0.0) == ()
    assert live().answered(0.0) == ()
    session = live_phone()
    assert session.answered(SETTINGS.heartbeat_timeout_s + 0.1) == (Challenge(),)
    assert session.answered(SETTINGS.heartbeat_timeout_s) == (Prove("phone"),)


@pytest.mark.parametrize("known_first", [True, False])
def test_of_two_sessions_of_a_device_that_are_proved_the_later_stays(known_first: bool) -> None:
    """Whether this one's time is known before or after it hears of the other's; of one time, the higher id."""
    for rival, told in (((9, "~"), list[Close]()), ((10, ""), []), ((10, "~"), [Close.REPLACED]), ((11, ""), [Close.REPLACED])):
        session = live_phone()
        if known_first:
            actions = session.proved(10) + session.replaced(*rival)
        else:
            actions = session.replaced(*rival) + session.proved(10)
        assert closes(actions) == told


def test_its_own_proof_replaces_nobody() -> None:
    """Nor does any, as long as this session has not been proved itself: it is a matter for its heartbeat then."""
    session = live_phone()
    assert session.replaced(99, "other") == ()
    session = live_phone()
    assert session.proved(10) + session.replaced(10, session.id) == ()


def test_since_wins_and_becomes_the_devices_cursor() -> None:
    """Clamped like any; the client is live without waiting for anybody."""
    session = registering(device="phone", since=str(NOW_SEQ))
    assert only(MoveCursor, session.registered(NOW_SEQ + 5)) == MoveCursor(PHONE, NOW_SEQ)
    moved = only(MoveCursor, registering(device="phone", since=str(2 * NOW_SEQ)).registered(NOW_SEQ))
    assert isinstance(moved, MoveCursor)
    assert moved.seq <= time.time_ns() // 1_000
    assert only(MoveCursor, registering(device="phone", since="0").registered(NOW_SEQ)) == MoveCursor(PHONE, 0)


def test_a_device_whose_cursor_nobody_can_tell() -> None:
    """It is told to come again: where it would begin is not to be guessed."""
    session = registering(device="phone")
    session.registered(NOW_SEQ)
    assert closes(session.resumed(None)) == [Close.OVERLOADED]
    late = registering(device="phone")
    late.registered(NOW_SEQ)
    assert closes(late.overdue()) == [Close.OVERLOADED]
    assert late.resumed(NOW_SEQ) == ()


def test_an_ack_moves_the_devices_cursor() -> None:
    """Forward only, and never beyond what was sent; without a device there is none to move."""
    session = registering(device="phone")
    session.registered(NOW_SEQ)
    session.resumed(NOW_SEQ)
    assert session.position is not None
    session.position.take(NOW_SEQ, NOW_SEQ + 9, b"x")

    def ack(seq: int, more: str = "") -> Actions:
        return session.text(f'{{"type":"ack","seq":{seq}{more}}}'.encode())

    assert ack(NOW_SEQ) == ()
    assert ack(NOW_SEQ + 7, ',"to":"user:alice"') == (MoveCursor(PHONE, NOW_SEQ + 7),)
    assert ack(NOW_SEQ + 6) == ()
    assert frames(ack(NOW_SEQ + 10))[0]["code"] == "bad_ack"
    assert ack(NOW_SEQ + 9) == (MoveCursor(PHONE, NOW_SEQ + 9),)
    assert live(head=10).text(b'{"type":"ack","seq":7}') == ()


def test_wishes_of_later_versions_are_answered() -> None:
    """Behind the welcome, one error each."""
    answers = frames(registering(since="all:5", topics="news").registered(0))
    assert [answer["type"] for answer in answers] == ["welcome", "error", "error"]
    assert {answer.get("code") for answer in answers[1:]} == {"not_supported"}


# -- refusals ------------------------------------------------------------------------------------------------------------


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
    states[live()] = Close.TOKEN_EXPIRED
    for session, close in states.items():
        assert closes(session.overdue()) == [close]
        assert session.overdue() == ()


def test_bye_comes_before_the_close() -> None:
    """So that a client knows when to come back."""
    actions = live().drained(1380)
    assert frames(actions) == [{"type": "bye", "reason": "draining", "retry_after_ms": 1380}]
    assert isinstance(actions[-1], Disconnect)


# -- frames of a session -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (b'{"type":"ping"}', ["pong"]),
        (b'{"type":"ack","seq":10}', []),
        (b'{"type":"ack","seq":3,"to":"user:alice"}', []),
        (b'{"type":"ack","seq":11}', ["bad_ack"]),
        (b'{"type":"ack","seq":1,"to":"user:bob"}', ["bad_ack"]),
        (b'{"type":"connect","token":"t"}', ["unexpected"]),
        (b'{"type":"subscribe","topic":"news"}', ["not_supported"]),
        (b'{"type":"unsubscribe","topic":"news"}', ["not_supported"]),
        (b'{"type":"token","token":"t"}', ["not_supported"]),
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
    answers = [frame.get("code", frame.get("type", frame.get("seq"))) for frame in frames(session.registered(10))]
    assert answers == ["welcome", "not_supported", "unexpected", "bad_ack", "pong", 11]
    assert [frame["type"] for frame in frames(session.text(b'{"type":"ping"}'))] == ["pong"]


def test_not_many_answers_are_kept_until_the_welcome() -> None:
    """A client that sends on and on before it is welcome is sent away."""
    session = registering()
    for _ in range(16):
        assert session.text(b'{"type":"ping"}') == ()
    assert closes(session.text(b'{"type":"ping"}')) == [Close.BAD_FRAME]


# -- any order of events -------------------------------------------------------------------------------------------------

EVENTS: dict[str, Callable[[Session], Actions]] = {
    "upgraded": lambda s: s.upgraded(Upgrade(None, {}, ())),
    "connect": lambda s: s.text(b'{"type":"connect","token":"t"}'),
    "ping": lambda s: s.text(b'{"type":"ping"}'),
    "verified": lambda s: s.verified("alice", math.inf),
    "refused": lambda s: s.refused("no"),
    "registered": lambda s: s.registered(5),
    "answered": lambda s: s.answered(0.0),
    "proved": lambda s: s.proved(5),
    "rival": lambda s: s.replaced(6, "other"),
    "resumed": lambda s: s.resumed(5),
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
        assert {"connect", "verified", "registered"} <= set(events)
