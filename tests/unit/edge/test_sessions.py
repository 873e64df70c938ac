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


def test_a_devices_sessions_are_found_while_they_are_here() -> None:
    """There may be two for a moment; one without a device is nobody's."""
    sessions = Sessions[str](9)
    sessions.add("c1", "alice", "phone", position())
    sessions.add("c2", "alice", None, position())
    sessions.add("c3", "alice", "phone", position())
    assert sessions.find("alice", "phone") == ["c1", "c3"]
    assert sessions.find("alice", "tablet") == []
    assert sessions.find("bob", "phone") == []
    sessions.remove("c1", "alice")
    assert sessions.find("alice", "phone") == ["c3"]


def test_one_session_too_many_changes_nothing() -> None:
    """The limit is per user."""
    sessions = Sessions[str](1)
    sessions.add("c1", "alice", None, position())
    with pytest.raises(TooManySessions):
        sessions.add("c2", "alice", None, position())
    sessions.add("c3", "bob", None, position())
    assert len(sessions) == 2


def test_a_device_may_come_again_to_a_full_table() -> None:
    """The older of its sessions will go. What never goes is bounded, too."""
    sessions = Sessions[str](2)
    for name, device in (("c1", "phone"), ("c2", "tablet"), ("c3", "phone"), ("c4", "phone")):
        sessions.add(name, "alice", device, position())
    for refused in ("phone", "laptop", None):
        with pytest.raises(TooManySessions):
            sessions.add("c5", "alice", refused, position())
    sessions.remove("c1", "alice")
    for refused in ("laptop", None):
        with pytest.raises(TooManySessions):
            sessions.add("c5", "alice", refused, position())
    sessions.add("c5", "alice", "tablet", position())


def test_all_sessions_of_a_user_are_found() -> None:
    """In the order of their coming, as they are when it is asked."""
    sessions = Sessions[str](99)
    for holder, user, device in (("c1", "alice", "phone"), ("c2", "bob", None), ("c3", "alice", None)):
        sessions.add(holder, user, device, position())
    found = sessions.of_user("alice")
    sessions.remove("c1", "alice")
    assert (found, sessions.of_user("alice"), sessions.of_user("carol")) == (["c1", "c3"], ["c3"], [])


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
