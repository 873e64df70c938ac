"""edge.subscriptions, what comes unasked: topics that the token names, and those that a back end has subscribed the user to."""

from __future__ import annotations

import time
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from edge.actions import FIND_STANDING, Actions, CatchUp, FindCursor, Forgo, Hear, Leave, MoveCursor
from edge.session import Session
from edge.upgrade import SUBPROTOCOL, Upgrade
from router.cursors import CursorKey
from router.grants import covers
from router.settings import Settings
from router.targets import TOPIC_PREFIX
from tests.unit.edge.outlets import KeptOutlet, feed
from tests.unit.edge.stages import come, frames, places

NOW_SEQ: Final = int(time.time() * 1_000_000)
NEWS: Final = CursorKey("alice", "phone", "topic:news")


def live(
    patterns: tuple[str, ...] = (), granted: tuple[str, ...] = (), settings: Settings | None = None, **query: str
) -> tuple[Session, Actions]:
    """Return a session that has had its welcome, and what it did then."""
    session = Session(settings or Settings(), "edge-1", KeptOutlet())
    session.upgraded(Upgrade("t", query, (SUBPROTOCOL,)))
    session.verified("alice", 60.0, patterns, granted)
    return session, come(session, 10)


def heard(actions: Actions) -> list[str]:
    """Return the targets that are asked for."""
    return [action.target for action in actions if isinstance(action, Hear)]


def told(actions: Actions) -> list[object]:
    """Return what the client is told, in short."""
    return [(frame["type"], frame.get("topic") or frame.get("code")) for frame in frames(actions)]


def join(session: Session, *topics: str) -> list[object]:
    """Have feeds heard, and return what the client is told."""
    return [one for topic in topics for one in told(session.heard(feed(f"topic:{topic}", 7)))]


def test_what_the_token_names_is_heard_behind_the_wishes() -> None:
    """Whatever the patterns grant; each once, and named as it is: an asterisk in it is no pattern."""
    session, actions = live((), ("sport", "*"), topics="news")
    assert FIND_STANDING in actions
    assert heard(actions) == ["topic:sport", "topic:*"]
    assert told(actions) == [("welcome", None), ("error", "forbidden")]
    assert heard(live(("*",), ("sport", "news"), topics="news")[1]) == ["topic:news", "topic:sport"]
    assert join(session, "sport", "*") == [("subscribed", "sport"), ("subscribed", "*")]
    assert told(session.text(b'{"type":"subscribe","topic":"team"}')) == [("error", "forbidden")]
    session.text(b'{"type":"unsubscribe","topic":"sport"}')
    assert heard(session.text(b'{"type":"subscribe","topic":"sport"}')) == ["topic:sport"]


def test_what_stands_is_heard_once_it_is_read() -> None:
    """And told as if the client had asked; whoever has nothing standing is told nothing."""
    session, _ = live()
    assert session.standing([]) == ()
    assert heard(session.standing(["news", "sport"])) == ["topic:news", "topic:sport"]
    assert join(session, "news", "sport") == [("subscribed", "news"), ("subscribed", "sport")]
    assert session.standing(["news", "sport"]) == ()


def test_what_stands_no_longer_is_left() -> None:
    """Joined or not; what the client has asked for by a right of its own stays."""
    session, _ = live(("own", "both"))
    session.text(b'{"type":"subscribe","topic":"own"}')
    session.standing(["news", "sport", "own", "both"])
    join(session, "news", "own", "both")
    session.text(b'{"type":"subscribe","topic":"both"}')
    actions = session.standing([])
    assert [type(action) for action in actions if isinstance(action, (Leave, Forgo))] == [Leave, Forgo]
    assert told(actions) == [("unsubscribed", "news"), ("unsubscribed", "sport")]
    assert session.heard(feed("topic:sport")) == ()
    assert told(session.text(b'{"type":"subscribe","topic":"news"}')) == [("error", "forbidden")]


def test_what_a_back_end_ends_is_over() -> None:
    """Whoever asked for it; what is not heard is not told."""
    session, _ = live(("own",), ("given",))
    session.standing(["news"])
    session.text(b'{"type":"subscribe","topic":"own"}')
    join(session, "news", "own", "given")
    for topic in ("own", "given", "news"):
        assert told(session.ended(topic)) == [("unsubscribed", topic)]
        assert session.ended(topic) == ()
    assert heard(session.standing(["news"])) == ["topic:news"]


def test_what_the_client_has_left_is_not_given_again() -> None:
    """By any number of re-reads, unless a back end ends it meanwhile, or the client asks."""
    session, _ = live()
    session.standing(["news"])
    join(session, "news")
    assert told(session.text(b'{"type":"unsubscribe","topic":"news"}')) == [("unsubscribed", "news")]
    assert session.standing(["news"]) == session.standing(["news"]) == ()
    assert heard(session.text(b'{"type":"subscribe","topic":"news"}')) == ["topic:news"]
    session.text(b'{"type":"unsubscribe","topic":"news"}')
    session.ended("news")
    assert heard(session.standing(["news"])) == ["topic:news"]
    session.text(b'{"type":"unsubscribe","topic":"news"}')
    session.standing([])
    assert heard(session.standing(["news"])) == ["topic:news"]


def test_leaving_before_it_is_read() -> None:
    """Counts, before the welcome and behind it; leaving what did not stand then is nothing against what is to come."""
    session = Session(Settings(), "edge-1", KeptOutlet())
    session.upgraded(Upgrade("t", {}, (SUBPROTOCOL,)))
    session.verified("alice", 60.0, (), ("given", "kept"))
    for topic in (b"given", b"early", b"kept"):
        session.text(b'{"type":"unsubscribe","topic":"%b"}' % topic)
    session.text(b'{"type":"subscribe","topic":"kept"}')
    assert heard(come(session, 10)) == ["topic:kept"]
    session.text(b'{"type":"unsubscribe","topic":"late"}')
    assert session.standing(["early", "late", "given"]) == ()

    other, _ = live()
    other.standing([])
    other.text(b'{"type":"unsubscribe","topic":"news"}')
    assert heard(other.standing(["news"])) == ["topic:news"]


def test_where_it_begins() -> None:
    """At what the client said at connecting, once; a device's where its cursor is."""
    session, _ = live(since="topic:news:5")
    session.standing(["news"])
    actions = session.heard(feed("topic:news", 9))
    assert [action.position.at for action in actions if isinstance(action, CatchUp)] == [5]

    device, _ = live(device="phone", since=f"0,all:0,topic:sport:{NOW_SEQ}")
    device.standing(["news", "sport"])
    assert device.heard(feed("topic:news", NOW_SEQ)) == (FindCursor({NEWS: NOW_SEQ}),)
    assert told(device.resumed({NEWS: NOW_SEQ - 1})) == [("subscribed", "news")]
    moved = device.heard(feed("topic:sport", NOW_SEQ))
    assert MoveCursor(NEWS._replace(target="topic:sport"), NOW_SEQ) in moved


def test_too_many_are_told_once() -> None:
    """As many as fit are heard, and the next when there is room."""
    session, actions = live((), ("a",), Settings(subscriptions_session_max=2))
    assert heard(actions) == ["topic:a"]
    more = session.standing(["b", "c", "d"])
    assert (heard(more), told(more)) == (["topic:b"], [("error", "too_many_topics")])
    assert session.standing(["b", "c", "d"]) == ()
    session.text(b'{"type":"unsubscribe","topic":"a"}')
    assert heard(session.standing(["b", "c", "d"])) == ["topic:c"]


def test_what_is_left_without_end_is_not_kept() -> None:
    """While nothing is known of what stands, as when MongoDB is away, a rude client fills no memory."""
    session, _ = live(settings=Settings(subscriptions_session_max=2))
    for number in range(10):
        session.text(b'{"type":"unsubscribe","topic":"t%d"}' % number)
    assert heard(session.standing(["t0", "t1", "t2", "t3"])) == ["topic:t2", "topic:t3"]


def test_nothing_is_told_outside_of_a_sessions_life() -> None:
    """Answers come late, and notices whenever they come."""
    session = Session(Settings(), "edge-1", KeptOutlet())
    assert session.standing(["news"]) == session.ended("news") == ()
    session, _ = live()
    session.standing(["news"])
    session.left()
    assert session.standing(["sport"]) == session.ended("news") == ()
    session.let_go()
    assert session.standing(["sport"]) == ()


def extended(session: Session, patterns: tuple[str, ...] = (), granted: tuple[str, ...] = ()) -> Actions:
    """Give a session a newer token; return what it does behind `extended`."""
    session.text(b'{"type":"token","token":"t"}')
    actions = session.verified("alice", 600.0, patterns, granted)
    assert told(actions)[0] == ("extended", None)
    return actions[2:]


def test_what_a_newer_token_does_not_grant_is_over() -> None:
    """Joined or not, asked for or named by the one before; the client is told so, and why."""
    session, _ = live(("own-*",), ("given",))
    session.text(b'{"type":"subscribe","topic":"own-1"}')
    session.text(b'{"type":"subscribe","topic":"own-2"}')
    session.text(b'{"type":"subscribe","topic":"own-3"}')
    join(session, "own-1", "own-2", "given")
    actions = extended(session, ("own-2",))
    assert [type(action) for action in actions if isinstance(action, (Leave, Forgo))] == [Leave, Leave, Forgo]
    assert told(actions) == [
        one for topic in ("own-1", "given", "own-3") for one in (("unsubscribed", topic), ("error", "forbidden"))
    ]
    assert told(session.text(b'{"type":"subscribe","topic":"own-1"}')) == [("error", "forbidden")]
    assert told(session.text(b'{"type":"subscribe","topic":"own-2"}')) == [("subscribed", "own-2")]


def test_what_a_newer_token_names() -> None:
    """Begins, unless the one before named it too, and the client has left it; it does for a session without any topic."""
    session, _ = live()
    assert heard(extended(session, (), ("news",))) == ["topic:news"]
    join(session, "news")
    session.standing([])
    session.text(b'{"type":"unsubscribe","topic":"news"}')
    assert heard(extended(session, (), ("news", "sport"))) == ["topic:sport"]
    assert extended(session, (), ("news", "sport")) == ()


def test_what_stands_needs_no_token() -> None:
    """Also where the client had asked for it by a right of its own, until it stands no longer."""
    session, _ = live(("own",))
    session.text(b'{"type":"subscribe","topic":"own"}')
    session.standing(["own", "news"])
    join(session, "own", "news")
    assert extended(session) == ()
    assert told(session.standing([])) == [("unsubscribed", "news"), ("unsubscribed", "own")]


TOPICS: Final = ("own-1", "own-2", "news", "sport")
STEPS: Final = st.lists(
    st.one_of(
        st.tuples(st.just("standing"), st.lists(st.sampled_from(TOPICS), unique=True)),
        st.tuples(st.sampled_from(["subscribe", "unsubscribe", "ended"]), st.sampled_from(TOPICS)),
        st.tuples(st.just("token"), st.tuples(st.sampled_from(["own-*", "own-1", "*", "none"]), st.sampled_from(TOPICS))),
    ),
    max_size=30,
)


Said = str | list[str] | tuple[str, str]
"""A topic; those that stand; or the pattern and the name in a newer token."""


class Model:
    """What a session is to hear, from the three words that are said of it."""

    def __init__(self) -> None:
        self.own: set[str] = set()
        self.stands: set[str] | None = None
        self.left: set[str] = set()
        self.token = ("own-*", "none")

    @property
    def heard(self) -> set[str]:
        """What is heard: what was asked for by right, and what stands and was not left."""
        return self.own | (self.stands or set()) - self.left

    def may_ask(self, topic: str) -> bool:
        """Tell whether the token grants it."""
        return covers(self.token[:1], topic) or topic == self.token[1]

    def step(self, word: str, said: Said) -> None:
        """Take a step."""
        if isinstance(said, tuple):
            named, self.token = self.token[1], said
            self.own = {topic for topic in self.own if self.may_ask(topic)} | ({said[1]} - {named} - self.left)
        elif isinstance(said, list):
            self.stands = set(said)
            self.left &= self.stands
        elif word == "subscribe":
            self.left.discard(said)
            self.own |= {said} if self.may_ask(said) else set()
        elif word == "unsubscribe":
            self.own.discard(said)
            self.left |= {said} if self.stands is None or said in self.stands else set()
        else:
            self.own.discard(said)
            self.left.discard(said)
            if self.stands is not None:
                self.stands.discard(said)


@given(STEPS)
def test_the_client_is_told_what_is_heard(steps: list[tuple[str, Said]]) -> None:
    """Whoever says what in whatever order: what the session hears is what the client was told, and what is right."""
    session, _ = live(("own-*",))
    model, client = Model(), set[str]()
    for word, said in steps:
        model.step(word, said)
        if isinstance(said, list):
            actions = session.standing(said)
        elif isinstance(said, tuple):
            actions = extended(session, said[:1], said[1:])
        elif word == "ended":
            actions = session.ended(said)
        else:
            actions = session.text(b'{"type":"%b","topic":"%b"}' % (word.encode(), said.encode()))
        actions += tuple(action for target in heard(actions) for action in session.heard(feed(target)))
        for frame in frames(actions):
            client |= {str(frame["topic"])} if frame["type"] == "subscribed" else set()
            client -= {str(frame["topic"])} if frame["type"] == "unsubscribed" else set()
        hearings = {hearing.feed.position.target.removeprefix(TOPIC_PREFIX) for hearing in places(session).hearings[1:]}
        assert client == hearings == model.heard
