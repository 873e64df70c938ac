"""edge.token_life, in a session: when the client is told that it ends, and what newer tokens come to."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from edge.actions import (
    Actions,
    Await,
    Send,
    Verify,
)
from edge.closes import Close
from edge.frames import Expiring, encode
from edge.session import Session, State
from edge.upgrade import SUBPROTOCOL, Upgrade
from router.settings import Settings
from tests.unit.edge.outlets import KeptOutlet
from tests.unit.edge.stages import (
    NODE,
    SETTINGS,
    closes,
    come,
    frames,
    live,
    only,
    registering,
)


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


def test_which_token_holds() -> None:
    """The newest that the session goes on with; one that does not do is none."""
    session = renewing()
    session.verified("alice", 600.0, iat=5, jti="t5")
    assert (session.iat, session.jti) == (5, "t5")
    for answer in (partial(session.verified, "bob", 600.0), partial(session.refused, "no")):
        session.text(TOKEN % b"newer")
        answer()
        assert (session.iat, session.jti) == (5, "t5")
    session.text(TOKEN % b"newer")
    session.text(TOKEN % b"newest")
    session.verified("alice", 600.0, iat=6, jti="t6")
    assert session.jti == "t5"  # another has come meanwhile, and that one is asked about
    session.verified("alice", 600.0, iat=7, jti="t7")
    assert (session.iat, session.jti) == (7, "t7")


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
