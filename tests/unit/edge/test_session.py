"""edge.session: the states, and what each event leads to."""

from __future__ import annotations

import json
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
    Forgo,
    Hear,
    Leave,
    MoveCursor,
    Prove,
    Register,
    Send,
    Verify,
    Watch,
)
from edge.closes import Close, Closing
from edge.frames import Expiring, encode
from edge.handshake import SUBPROTOCOL, Upgrade
from edge.position import Verdict
from edge.session import Session, State
from router.cursors import CursorKey
from router.settings import Settings
from router.targets import ALL
from tests.unit.edge.outlets import KeptOutlet, feed

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


NOW_SEQ = time.time_ns() // 1_000


def test_client_that_has_all() -> None:
    """Its cursor is the head: it is caught up as soon as it is live."""
    actions = come(registering(since=str(NOW_SEQ)), NOW_SEQ)
    assert frames(actions)[1:] == [{"type": "caught_up", "to": "user:alice", "seq": NOW_SEQ}]
    assert not [action for action in actions if isinstance(action, CatchUp)]


def test_client_that_missed_something() -> None:
    """It is caught up first, and told when that is done."""
    session = registering(since=str(NOW_SEQ))
    actions = come(session, NOW_SEQ + 5)
    assert [frame["type"] for frame in frames(actions)] == ["welcome"]
    assert session.position is not None
    assert only(CatchUp, actions) == CatchUp(session.position, announce=True)
    assert (session.position.at, session.position.goal) == (NOW_SEQ, NOW_SEQ + 5)


def test_cursor_older_than_what_is_kept() -> None:
    """The client is told from where to where something may be gone; 0 asks for what there is, and misses nothing."""
    (_, lost) = frames(come(registering(since="5"), NOW_SEQ))
    assert (lost["type"], lost["to"], lost["from"]) == ("lost", "user:alice", 5)
    until = lost["until"]
    assert isinstance(until, int)
    assert abs(time.time() - SETTINGS.retention_s - until / 1_000_000) < 60
    assert [frame["type"] for frame in frames(come(registering(since="0"), NOW_SEQ))] == ["welcome"]


# -- a device ------------------------------------------------------------------------------------------------------------

PHONE = CursorKey("alice", "phone", "user:alice")
PHONE_ALL = PHONE._replace(target=ALL)


def at(seq: int) -> dict[CursorKey, int]:
    """Return where the phone's cursors stand: its own there, that of `all` at the beginning, of which there is nothing."""
    return {PHONE: seq, PHONE_ALL: 0}


def test_a_device_without_since_goes_on_where_it_stopped() -> None:
    """The cursor is looked up behind the head, with a deadline of its own; nothing is sent before it is known."""
    session = registering(device="phone")
    session.routed(NOW_SEQ + 9)
    actions = come(session, NOW_SEQ + 5, NOW_SEQ + 4)
    assert actions == (FindCursor({PHONE: NOW_SEQ + 5, PHONE_ALL: NOW_SEQ + 4}),)
    assert session.position is not None
    assert session.position.take(NOW_SEQ + 5, NOW_SEQ + 6, b"x") is Verdict.HELD
    actions = session.resumed({PHONE: NOW_SEQ, PHONE_ALL: NOW_SEQ + 4})
    assert [frame["type"] for frame in frames(actions)] == ["welcome"]
    assert frames(actions)[0]["seq"] == NOW_SEQ + 5
    assert only(CatchUp, actions) == CatchUp(session.position, announce=True)
    assert (session.position.at, session.position.goal) == (NOW_SEQ, NOW_SEQ + 6)
    assert not [action for action in actions if isinstance(action, MoveCursor)]


def test_a_device_that_has_all_is_caught_up_at_once() -> None:
    """As a client is that says so itself."""
    session = registering(device="phone")
    come(session, NOW_SEQ)
    assert [frame["type"] for frame in frames(session.resumed(at(NOW_SEQ)))] == ["welcome", "caught_up"]


def test_a_cursor_above_the_head_is_clamped() -> None:
    """It is not of this cluster, or of a device that had nothing to begin from; what comes follows the head."""
    session = registering(device="phone")
    come(session, NOW_SEQ)
    session.resumed(at(NOW_SEQ * 2))
    assert session.position is not None
    assert session.position.at == NOW_SEQ
    assert session.position.take(NOW_SEQ, NOW_SEQ + 1, b"x") is Verdict.DELIVER


def test_a_devices_cursor_older_than_what_is_kept() -> None:
    """The device is told what it may have lost."""
    session = registering(device="phone")
    come(session, NOW_SEQ)
    assert [frame["type"] for frame in frames(session.resumed(at(5)))] == ["welcome", "lost"]


@pytest.mark.parametrize("head", [0, 5])
def test_a_new_device_is_not_remembered_in_the_far_past(head: int) -> None:
    """Or it would be told of a loss when it comes back, though nothing was sent; what it gets now follows the head."""
    session = registering(device="phone")
    session.routed(NOW_SEQ)
    find = only(FindCursor, come(session, head))
    assert isinstance(find, FindCursor)
    begin_at = NOW_SEQ - int(SETTINGS.retention_s / 2 * 1_000_000)
    assert find.begin_at == {PHONE: begin_at, PHONE_ALL: begin_at}
    assert session.position is not None
    assert frames(session.resumed(find.begin_at))[1:] == [{"type": "caught_up", "to": "user:alice", "seq": head}]
    assert session.position.take(head, head + 1, b"x") is Verdict.DELIVER


def live_phone() -> Session:
    """Return a session of a device that has had its welcome."""
    session = registering(device="phone")
    come(session, NOW_SEQ)
    session.resumed(at(NOW_SEQ))
    return session


def test_a_device_is_challenged_right_behind_its_welcome() -> None:
    """Before anything else is asked for; a session without a device replaces nobody and is not."""
    for query in ({"device": "phone"}, {"device": "phone", "since": "0"}):
        session = registering(**query)
        actions = come(session, NOW_SEQ)
        if session.state is State.RESUMING:
            actions = session.resumed(at(0))
        assert [type(action) for action in actions][:3] == [Await, Send, Challenge]
    assert Challenge() not in come(registering(), 10)


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
    """Clamped like any; with `since` of both the client is live without waiting for anybody."""

    def moved(own: int, everyone: int, head: int) -> Actions:
        actions = come(registering(device="phone", since=f"{own},all:{everyone}"), head, NOW_SEQ)
        return tuple(action for action in actions if isinstance(action, MoveCursor))

    assert moved(NOW_SEQ, NOW_SEQ, NOW_SEQ + 5) == (MoveCursor(PHONE, NOW_SEQ), MoveCursor(PHONE_ALL, NOW_SEQ))
    assert moved(0, 5, NOW_SEQ) == (MoveCursor(PHONE, 0), MoveCursor(PHONE_ALL, 5))
    for action in moved(2 * NOW_SEQ, 2 * NOW_SEQ, NOW_SEQ):
        assert isinstance(action, MoveCursor)
        assert action.seq <= time.time_ns() // 1_000
    half = registering(device="phone", since="5")
    half.routed(7)
    assert come(half, NOW_SEQ, 7) == (FindCursor({PHONE_ALL: 7}),)
    assert only(MoveCursor, half.resumed({PHONE_ALL: 7})) == MoveCursor(PHONE, 5)


def test_a_device_whose_cursor_nobody_can_tell() -> None:
    """It is told to come again: where it would begin is not to be guessed."""
    session = registering(device="phone")
    come(session, NOW_SEQ)
    assert closes(session.resumed(None)) == [Close.OVERLOADED]
    late = registering(device="phone")
    come(late, NOW_SEQ)
    assert closes(late.overdue()) == [Close.OVERLOADED]
    assert late.resumed(at(NOW_SEQ)) == ()


def test_an_ack_moves_the_devices_cursor() -> None:
    """Forward only, and never beyond what was sent; without a device there is none to move."""
    session = registering(device="phone")
    come(session, NOW_SEQ)
    session.resumed(at(NOW_SEQ))
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


# -- all, and topics ------------------------------------------------------------------------------------------------------

NEWS = CursorKey("alice", "phone", "topic:news")


def test_what_all_have_missed_is_told_to_who_asks_or_has_missed_it() -> None:
    """A client that says nothing of `all` hears what comes; one that does is caught up with it, as with its own."""
    assert [frame["type"] for frame in frames(come(registering(), 0, NOW_SEQ))] == ["welcome"]
    (_, caught_up) = frames(come(registering(since=f"all:{NOW_SEQ}"), 0, NOW_SEQ))
    assert caught_up == {"type": "caught_up", "to": "all", "seq": NOW_SEQ}
    session = registering(device="phone")
    come(session, 0, NOW_SEQ)
    behind = only(CatchUp, session.resumed({PHONE: 0, PHONE_ALL: NOW_SEQ - 9}))
    assert isinstance(behind, CatchUp)
    assert (behind.position.target, behind.position.at, behind.announce) == (ALL, NOW_SEQ - 9, True)


def test_a_topic_is_heard_once_it_is_granted() -> None:
    """Asked for, heard, told; asking again is answered again, and leaving too."""
    session = live(10, "ne*")
    assert session.text(b'{"type":"subscribe","topic":"news"}') == (Hear("topic:news"),)
    assert session.wished == [ALL, "topic:news"]
    news = feed("topic:news", 7)
    assert frames(session.heard(news)) == [{"type": "subscribed", "topic": "news", "seq": 7}]
    assert [hearing.feed for hearing in session.hearings][1:] == [news]
    assert frames(session.text(b'{"type":"subscribe","topic":"news"}')) == [{"type": "subscribed", "topic": "news", "seq": 7}]
    actions = session.text(b'{"type":"unsubscribe","topic":"news"}')
    assert isinstance(actions[0], Leave)
    assert frames(actions) == [{"type": "unsubscribed", "topic": "news"}]
    assert len(session.hearings) == 1


def test_a_topic_behind_a_cursor() -> None:
    """In the frame, or, once, from the connecting; the device's is looked up, and both answers come in their order."""
    session = live(10, "*")
    session.text(b'{"type":"subscribe","topic":"news","since":5}')
    news = feed("topic:news", NOW_SEQ)
    actions = session.heard(news)
    assert [frame["type"] for frame in frames(actions)] == ["subscribed", "lost"]
    assert [(action.position.at, action.announce) for action in actions if isinstance(action, CatchUp)] == [(5, True)]

    device = new()
    device.upgraded(Upgrade("t", {"device": "phone", "topics": "news,sport", "since": f"0,all:0,topic:sport:{NOW_SEQ}"}, ()))
    device.verified("alice", 60.0, ["*"])
    assert [action for action in come(device, NOW_SEQ) if isinstance(action, Hear)] == [Hear("topic:news"), Hear("topic:sport")]
    assert device.heard(news) == (FindCursor({NEWS: NOW_SEQ}),)
    sport = device.heard(feed("topic:sport", NOW_SEQ))
    assert [frame["type"] for frame in frames(sport)] == ["subscribed", "caught_up"]
    assert only(MoveCursor, sport) == MoveCursor(NEWS._replace(target="topic:sport"), NOW_SEQ)
    assert [frame["type"] for frame in frames(device.resumed({NEWS: NOW_SEQ - 1}))] == ["subscribed"]
    assert [hearing.at for hearing in device.hearings] == [0, NOW_SEQ, NOW_SEQ - 1]


def test_a_topic_that_is_left_before_it_is_heard() -> None:
    """Nothing of it comes, however late the answers are."""
    session = live(10, "*")
    session.text(b'{"type":"subscribe","topic":"news"}')
    actions = session.text(b'{"type":"unsubscribe","topic":"news"}')
    assert actions[0] == Forgo("topic:news")
    assert session.heard(feed("topic:news")) == ()
    assert session.resumed({NEWS: 5}) == ()


def granted_phone() -> Session:
    """Return a session of a device that may hear every topic."""
    session = new()
    session.upgraded(Upgrade("t", {"device": "phone", "since": "0,all:0"}, ()))
    session.verified("alice", 60.0, ["*"])
    come(session, NOW_SEQ)
    return session


def test_a_topic_that_is_asked_for_twice_before_it_is_heard() -> None:
    """Is one wish, at the bound too; it begins where either of them says, and the later word wins."""
    session = live(10, "*")
    subscribe = b'{"type":"subscribe","topic":"news"}'
    session.text(b'{"type":"subscribe","topic":"news","since":5}')
    for number in range(SETTINGS.subscriptions_session_max - 1):
        session.text(b'{"type":"subscribe","topic":"team.%d"}' % number)
    assert session.text(subscribe) == ()
    assert [action.position.at for action in session.heard(feed("topic:news", 9)) if isinstance(action, CatchUp)] == [5]

    device = granted_phone()
    device.text(subscribe)
    news = feed("topic:news", NOW_SEQ)
    assert isinstance(device.heard(news)[0], FindCursor)
    device.text(b'{"type":"subscribe","topic":"news","since":%d}' % (NOW_SEQ - 3))
    device.resumed({NEWS: NOW_SEQ})
    assert device.hearings[-1].at == NOW_SEQ - 3


def test_a_cursor_that_is_found_for_a_wish_that_is_over() -> None:
    """Does not have the next wish join the feed of the first, which may have ended with it."""
    session = granted_phone()
    session.text(b'{"type":"subscribe","topic":"news"}')
    session.heard(feed("topic:news", 7))
    session.text(b'{"type":"unsubscribe","topic":"news"}')
    session.text(b'{"type":"subscribe","topic":"news"}')
    assert session.resumed({NEWS: 7}) == ()
    later = feed("topic:news", 7)
    session.heard(later)
    session.resumed({NEWS: 7})
    assert session.hearings[-1].feed is later


def test_topics_that_are_refused() -> None:
    """With the reason; the session goes on."""
    session = live(10, "team.*")
    assert frames(session.text(b'{"type":"subscribe","topic":"news"}'))[0]["code"] == "forbidden"
    for number in range(SETTINGS.subscriptions_session_max):
        session.text(b'{"type":"subscribe","topic":"team.%d"}' % number)
    assert frames(session.text(b'{"type":"subscribe","topic":"team.x"}'))[0]["code"] == "too_many_topics"
    assert closes(session.text(b'{"type":"subscribe","topic":"a b"}')) == [Close.BAD_FRAME]


def test_who_asks_for_presence_watches_once_the_topic_is_heard() -> None:
    """Behind `subscribed`; asking again is answered again, and asking without it changes nothing."""
    session = live(10, "*")
    ask = b'{"type":"subscribe","topic":"news","presence":true}'
    assert session.text(ask) == (Hear("topic:news"),)
    actions = session.heard(feed("topic:news"))
    assert [frame["type"] for frame in frames(actions)] == ["subscribed"]
    assert actions[-1] == Watch("news")
    assert session.text(ask)[-1] == Watch("news")
    assert len(session.text(b'{"type":"subscribe","topic":"news"}')) == 1
    session.text(b'{"type":"subscribe","topic":"sport"}')
    session.text(b'{"type":"subscribe","topic":"sport","presence":true}')
    assert session.heard(feed("topic:sport"))[-1] == Watch("sport")


def test_presence_that_was_asked_for_in_vain_is_forgotten() -> None:
    """A wish that is taken back takes it with it, before the welcome and behind it."""
    session, early = live(10, "*"), new()
    session.text(b'{"type":"subscribe","topic":"news","presence":true}')
    session.text(b'{"type":"unsubscribe","topic":"news"}')
    early.upgraded(Upgrade("t", {}, (SUBPROTOCOL,)))
    early.verified("alice", 60.0, ["*"])
    for frame in ("subscribe", "unsubscribe"):
        more = ',"presence":true' if frame == "subscribe" else ""
        early.text(b'{"type":"%b","topic":"news"%b}' % (frame.encode(), more.encode()))
    come(early, 10)
    for one in (session, early):
        one.text(b'{"type":"subscribe","topic":"news"}')
        assert not [action for action in one.heard(feed("topic:news")) if isinstance(action, Watch)]


def test_presence_asked_for_before_the_welcome_is_watched_behind_it() -> None:
    """As the topic is subscribed."""
    session = new()
    session.upgraded(Upgrade("t", {}, (SUBPROTOCOL,)))
    session.verified("alice", 60.0, ["*"])
    session.text(b'{"type":"subscribe","topic":"news","presence":true}')
    come(session, 10)
    assert session.heard(feed("topic:news"))[-1] == Watch("news")


def test_topics_asked_for_before_the_welcome() -> None:
    """Are subscribed behind it, unless they are left again; there is a bound."""
    session = new()
    session.upgraded(Upgrade("t", {}, (SUBPROTOCOL,)))
    session.verified("alice", 60.0, ["*"])
    assert session.text(b'{"type":"subscribe","topic":"news","since":3}') == ()
    assert (
        session.text(b'{"type":"subscribe","topic":"sport"}') == session.text(b'{"type":"unsubscribe","topic":"sport"}') == ()
    )
    actions = come(session, 10)
    assert [frame["type"] for frame in frames(actions)] == ["welcome", "unsubscribed"]
    assert actions[-1] == Hear("topic:news")
    assert [action.position.at for action in session.heard(feed("topic:news", 5)) if isinstance(action, CatchUp)] == [3]
    rude = registering()
    asked = [rude.text(b'{"type":"subscribe","topic":"t%d"}' % number) for number in range(200)]
    assert closes(tuple(action for actions in asked for action in actions)) == [Close.BAD_FRAME]


def test_acks_of_all_and_of_topics() -> None:
    """Each moves the device's cursor of that target, never beyond what was sent of it."""
    session = new()
    session.upgraded(Upgrade("t", {"device": "phone", "topics": "news", "since": "0,all:0,topic:news:0"}, ()))
    session.verified("alice", 60.0, ["news"])
    come(session, 0)
    session.heard(feed("topic:news", 0))
    assert session.text(b'{"type":"ack","seq":0,"to":"topic:news"}') == (MoveCursor(NEWS, 0),)
    assert session.text(b'{"type":"ack","seq":0,"to":"all"}') == (MoveCursor(PHONE_ALL, 0),)
    for ack in (b'{"type":"ack","seq":1,"to":"topic:news"}', b'{"type":"ack","seq":0,"to":"topic:sport"}'):
        assert frames(session.text(ack))[0]["code"] == "bad_ack"


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


# -- the end of the token ------------------------------------------------------------------------------------------------


def begun(valid_s: float, settings: Settings = SETTINGS) -> tuple[Session, Actions]:
    """Return a session whose token is good for so long, and what it did when it was live."""
    session = Session(settings, NODE, KeptOutlet())
    session.upgraded(Upgrade("t", {}, (SUBPROTOCOL,)))
    session.verified("alice", valid_s)
    return session, come(session, 10)


def test_a_client_is_told_before_its_token_ends() -> None:
    """In time to fetch another; the session ends when the notice has passed."""
    session, actions = begun(3_604.2)
    assert only(Await, actions) == Await(3_574.2)
    assert session.overdue() == (Await(30.0), Send(encode(Expiring(30))))
    assert closes(session.overdue()) == [Close.TOKEN_EXPIRED]


@pytest.mark.parametrize(("valid_s", "told_s"), [(30.0, 30), (12.7, 12), (0.25, 0.25)])
def test_a_token_that_ends_soon(valid_s: float, told_s: float) -> None:
    """Is told of behind the welcome, and behind what was missed."""
    session, actions = begun(valid_s)
    assert only(Await, actions) == Await(valid_s)
    assert frames(actions)[1:] == [{"type": "expiring", "in_s": told_s}]
    assert closes(session.overdue()) == [Close.TOKEN_EXPIRED]


def test_a_notice_that_comes_late() -> None:
    """Gives no more time than there is; an edge that slept beyond the end closes at once."""
    session, _ = begun(60.0)
    assert session.overdue(0.5) == (Await(29.5), Send(encode(Expiring(29))))
    session, _ = begun(60.0)
    assert closes(session.overdue(30.0)) == [Close.TOKEN_EXPIRED]


def test_without_a_notice() -> None:
    """The session ends with its token, unannounced."""
    session, actions = begun(20.0, Settings(token_notice_s=0))
    assert only(Await, actions) == Await(20.0)
    assert closes(session.overdue()) == [Close.TOKEN_EXPIRED]


TOKEN = b'{"type":"token","token":"%b"}'


def renewing(*topics: str) -> Session:
    """Return a live session whose client has sent a newer token."""
    session = live(10, *topics)
    assert session.text(TOKEN % b"new") == (Verify("new"),)
    assert session.state is State.LIVE
    return session


def test_a_newer_token_extends_the_session() -> None:
    """Before the notice or after it: with a new end, and a new notice of it."""
    for noticed in (False, True):
        session = renewing()
        if noticed:
            session.overdue()
        actions = session.verified("alice", 3_600.5)
        assert actions[0] == Await(3_570.5)
        assert frames(actions) == [{"type": "extended", "in_s": 3600}]
        assert frames(session.overdue()) == [{"type": "expiring", "in_s": 30}]
        assert session.text(TOKEN % b"newest") == (Verify("newest"),)


def test_newer_tokens_that_live_for_less_than_the_notice() -> None:
    """Are not asked for in a circle: the notice comes after half of the time."""
    actions = renewing().verified("alice", 20.0)
    assert only(Await, actions) == Await(10.0)
    assert frames(actions) == [{"type": "extended", "in_s": 20}]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (lambda s: s.verified("bob", 600.0, ["*"], ["news"]), "forbidden"),
        (lambda s: s.refused("this is not a JSON Web Token"), "bad_token"),
        (lambda s: s.expired(), "bad_token"),
        (lambda s: s.unverifiable(), "unavailable"),
    ],
)
def test_a_newer_token_that_does_not_do(answer: Callable[[Session], Actions], code: str) -> None:
    """Changes nothing; nor does an answer that nobody asked for."""
    session = renewing()
    actions = answer(session)
    assert [frame["code"] for frame in frames(actions)] == [code]
    assert len(actions) == 1
    assert answer(session) == ()
    assert frames(session.text(b'{"type":"subscribe","topic":"news"}'))[0]["code"] == "forbidden"
    assert frames(session.overdue()) == [{"type": "expiring", "in_s": 30}]
    assert closes(session.overdue()) == [Close.TOKEN_EXPIRED]


@pytest.mark.parametrize(
    "answer", [lambda s: s.verified("alice", 9.0), lambda s: s.refused("no"), lambda s: s.expired(), lambda s: s.unverifiable()]
)
def test_of_several_newer_tokens_the_last_is_answered(answer: Callable[[Session], Actions]) -> None:
    """One is looked at at a time, whatever becomes of it, and those between not at all."""
    session = renewing()
    assert session.text(TOKEN % b"b") == session.text(TOKEN % b"c") == ()
    assert answer(session) == (Verify("c"),)
    assert frames(session.verified("alice", 600.0)) == [{"type": "extended", "in_s": 600}]


def test_a_newer_token_that_is_too_long() -> None:
    """Is not kept until another has been looked at; that one is answered."""
    session = renewing()
    assert frames(session.text(TOKEN % (b"x" * 8_193)))[0]["code"] == "bad_token"
    assert frames(session.verified("alice", 600.0)) == [{"type": "extended", "in_s": 600}]


def test_a_newer_token_before_the_welcome() -> None:
    """Is too early: the first is still being looked at."""
    session = registering()
    assert session.text(TOKEN % b"new") == ()
    assert frames(come(session, 10))[1]["code"] == "unexpected"


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


# -- any order of events -------------------------------------------------------------------------------------------------

EVENTS: dict[str, Callable[[Session], Actions]] = {
    "upgraded": lambda s: s.upgraded(Upgrade(None, {}, ())),
    "connect": lambda s: s.text(b'{"type":"connect","token":"t"}'),
    "ping": lambda s: s.text(b'{"type":"ping"}'),
    "verified": lambda s: s.verified("alice", 3_600.0, ["*"]),
    "token": lambda s: s.text(TOKEN % b"t"),
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
