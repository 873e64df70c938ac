"""edge.places, in a session: where it begins in its own messages, in `all` and in topics, and what acks move."""

from __future__ import annotations

import time

import pytest

from edge.actions import (
    Actions,
    CatchUp,
    FindCursor,
    Forgo,
    Hear,
    Leave,
    MoveCursor,
    Watch,
)
from edge.closes import Close
from edge.position import Verdict
from edge.session import Session
from edge.upgrade import SUBPROTOCOL, Upgrade
from router.cursors import CursorKey
from router.targets import ALL
from tests.unit.edge.outlets import feed
from tests.unit.edge.stages import (
    NOW_SEQ,
    PHONE,
    PHONE_ALL,
    SETTINGS,
    at,
    closes,
    come,
    frames,
    live,
    new,
    only,
    places,
    registering,
)


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
    assert places(session).wished == [ALL, "topic:news"]
    news = feed("topic:news", 7)
    assert frames(session.heard(news)) == [{"type": "subscribed", "topic": "news", "seq": 7}]
    assert [hearing.feed for hearing in places(session).hearings][1:] == [news]
    assert frames(session.text(b'{"type":"subscribe","topic":"news"}')) == [{"type": "subscribed", "topic": "news", "seq": 7}]
    actions = session.text(b'{"type":"unsubscribe","topic":"news"}')
    assert isinstance(actions[0], Leave)
    assert frames(actions) == [{"type": "unsubscribed", "topic": "news"}]
    assert len(places(session).hearings) == 1


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
    assert [hearing.at for hearing in places(device).hearings] == [0, NOW_SEQ, NOW_SEQ - 1]


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
    assert places(device).hearings[-1].at == NOW_SEQ - 3


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
    assert places(session).hearings[-1].feed is later


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
