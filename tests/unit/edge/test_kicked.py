"""edge.kicked: sessions of a user that are here end, with the code and the reason that were given."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pytest

from edge.closes import Chosen, Closing
from edge.kicked import Holder, hear
from router.kick import CODE_MAX, CODE_MIN, REASON, REASON_MAX_BYTES, Kick, check_kick


@dataclass
class Session:
    """A session by its id."""

    id: str


@dataclass
class Held:
    """Keeps what it is told."""

    session: Session
    device: str | None = None
    closes: list[tuple[int, str]] = field(default_factory=list)

    def close(self, close: Closing, detail: str = "") -> None:
        """Keep it."""
        assert isinstance(close, Chosen)
        self.closes.append((close.code, close.reason(detail)))


class Table:
    """Who holds sessions of whom."""

    def __init__(self, **users: list[Held]) -> None:
        self.users = users

    def of_user(self, user: str) -> list[Holder]:
        """Return who holds sessions of a user."""
        return list(self.users.get(user, []))

    def find(self, user: str, device: str) -> list[Holder]:
        """Return who holds sessions of a device."""
        return [held for held in self.users.get(user, []) if held.device == device]


@pytest.fixture
def table() -> Table:
    """Return three sessions of one user, and one of another."""
    alice = [Held(Session("1"), "phone"), Held(Session("2"), "tab"), Held(Session("3"))]
    return Table(älice=alice, bob=[Held(Session("4"), "phone")])


def _hear(table: Table, kick: Kick) -> list[str]:
    """Return which sessions end."""
    hear(table, msgspec.json.encode(check_kick(kick)))
    return [held.session.id for users in table.users.values() for held in users if held.closes]


def test_every_session_of_the_user_ends(table: Table) -> None:
    """With the code and the words that were chosen, nothing added."""
    assert _hear(table, Kick("älice", 4711, "the game is over")) == ["1", "2", "3"]
    assert [held.closes for held in table.users["älice"]] == [[(4711, "the game is over")]] * 3


def test_only_a_device_or_a_session_ends(table: Table) -> None:
    """Of both, only what is both; what is not here is no error."""
    assert _hear(table, Kick("älice", 4000, "", device="tab")) == ["2"]
    assert _hear(table, Kick("älice", 4000, "", session="3")) == ["2", "3"]
    assert _hear(table, Kick("älice", 4000, "", device="phone", session="2")) == ["2", "3"]
    assert _hear(table, Kick("älice", 4000, "", device="phone", session="1")) == ["1", "2", "3"]
    assert _hear(table, Kick("carol", 4000, "")) == ["1", "2", "3"]


@pytest.mark.parametrize("code", [CODE_MIN, CODE_MAX])
def test_the_longest_reason_goes_through_whole(table: Table, code: int) -> None:
    """With the outermost codes."""
    reason = "ü" * (REASON_MAX_BYTES // 2)
    assert _hear(table, Kick("bob", code, reason)) == ["4"]
    assert table.users["bob"][0].closes == [(code, reason)]


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"{}", b'{"user":"a","code":4502}', b'{"user":"a","code":1000,"reason":"r"}', b"\xff"),
        *(b'{"user":"a","code":5000,"reason":"r"}', b'{"user":"a","code":4502,"reason":"r","device":1}'),
    ],
)
def test_a_line_that_says_something_else(payload: bytes) -> None:
    """It is refused, and nobody is closed."""
    held = Held(Session("1"))
    with pytest.raises(ValueError, match=r"."):
        hear(Table(a=[held]), payload)
    assert held.closes == []


def test_what_clients_are_told_as_a_rule_fits() -> None:
    """The usual reason keeps the rule for those of back ends."""
    assert check_kick(Kick("a", 4502, REASON)).reason == REASON
