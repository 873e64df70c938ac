"""edge.sessions: who is here, and who hears what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.position import Position
from edge.sessions import Sessions, TooManySessions
from tests.unit.edge.outlets import KeptOutlet


def position() -> Position:
    """Return a position of its own."""
    return Position(KeptOutlet(), "user:a", 100)


def test_an_audience_is_found_by_the_target_as_a_line_names_it() -> None:
    """Bytes of UTF-8."""
    sessions, at = Sessions[str](9), position()
    sessions.add("c", "älice", "phone", at)
    assert sessions.audiences == {"user:älice".encode(): [at]}
    assert sessions.positions("älice") == [at]
    assert sessions.positions("bob") == []


def test_a_device_is_found_while_its_session_is_here() -> None:
    """A session without a device is nobody's older session."""
    sessions = Sessions[str](9)
    sessions.add("c1", "alice", "phone", position())
    sessions.add("c2", "alice", None, position())
    assert sessions.find("alice", "phone") == "c1"
    assert sessions.find("alice", None) is None
    assert sessions.find("bob", "phone") is None
    sessions.remove("c1", "alice")
    assert sessions.find("alice", "phone") is None


def test_one_session_too_many_changes_nothing() -> None:
    """The limit is per user."""
    sessions = Sessions[str](1)
    sessions.add("c1", "alice", None, position())
    with pytest.raises(TooManySessions):
        sessions.add("c2", "alice", None, position())
    sessions.add("c3", "bob", None, position())
    assert len(sessions) == 2


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["u", "v"]), st.booleans())))
def test_the_table_is_what_was_added_and_not_removed(steps: list[tuple[str, str, bool]]) -> None:
    """Users, audiences and count agree, and only a user's last session is the last."""
    sessions, here = Sessions[str](99), dict[tuple[str, str], Position]()
    for holder, user, comes in steps:
        key = (holder, user)
        if comes and key not in here:
            here[key] = position()
            sessions.add(holder, user, None, here[key])
        elif not comes:
            was_here = here.pop(key, None) is not None
            last = was_here and all(other != user for _, other in here)
            assert sessions.remove(holder, user) is last
    assert len(sessions) == len(here)
    assert set(sessions.users) == {user for _, user in here}
    for user in ("u", "v"):
        assert sessions.positions(user) == [at for (_, whose), at in here.items() if whose == user]
    assert len(sessions.audiences) == len(sessions.users)
