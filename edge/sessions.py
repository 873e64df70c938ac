"""The node's own table: which sessions it holds, by user, and who hears of which target.

`audiences` is what delivery reads for every message, so it is keyed by the target as it stands in a payload line: bytes.
Everything is changed on the event loop's thread, between messages; nothing here awaits.
"""

from __future__ import annotations

from collections.abc import KeysView, Mapping, MutableMapping
from typing import Final, Generic, TypeVar

from edge.position import Position
from router.errors import PushwayError
from router.targets import USER_PREFIX

C = TypeVar("C")
"""Who holds a session: the connection."""


class TooManySessions(PushwayError):
    """The user has as many sessions on this node as one may have."""


_SESSIONS_A_PLACE: Final = 2
"""How many sessions there may be for each that a user may have: one of a device that is coming beside the one that is to go."""


class Sessions(Generic[C]):
    """The sessions of one node.

    Args:
        user_max: most sessions of one user. Those of one device count as one, since one will stay (`edge.replaced`); with them
            there may be twice as many.
    """

    def __init__(self, user_max: int) -> None:
        self._user_max = user_max
        self._users: dict[str, dict[C, tuple[str | None, Position]]] = {}
        self._audiences: dict[bytes, list[Position]] = {}
        self._count = 0

    @property
    def audiences(self) -> Mapping[bytes, list[Position]]:
        """Target → positions of the sessions that hear of it."""
        return self._audiences

    @property
    def feeds(self) -> MutableMapping[bytes, list[Position]]:
        """The same, for whoever enters the targets that are no user's."""
        return self._audiences

    @property
    def users(self) -> KeysView[str]:
        """The users with a session here: whose routes are to stand."""
        return self._users.keys()

    def positions(self, user: str) -> list[Position]:
        """Return the positions in a user's own order; empty where none of the user's sessions is here."""
        return self._audiences.get(_target(user), [])

    def holders(self) -> list[C]:
        """Return who holds sessions, all of them."""
        return [holder for holders in self._users.values() for holder in holders]

    def of_user(self, user: str) -> list[C]:
        """Return who holds sessions of a user, in the order of their coming."""
        return list(self._users.get(user, ()))

    def find(self, user: str, device: str) -> list[C]:
        """Return who holds sessions of that device, in the order of their coming."""
        return [holder for holder, (named, _) in self._users.get(user, {}).items() if named == device]

    def devices(self, user: str) -> list[str]:
        """Return the devices with which a user is here, sorted. Sessions without one are not named."""
        return sorted({named for named, _ in self._users.get(user, {}).values() if named is not None})

    def add(self, holder: C, user: str, device: str | None, position: Position) -> None:
        """Take a session in.

        Raises:
            TooManySessions: when that is more than the user may have.
        """
        sessions = self._users.get(user, {})
        names = [device, *(named for named, _ in sessions.values())]
        places = len({*names} - {None}) + names.count(None)
        if places > self._user_max or len(names) > _SESSIONS_A_PLACE * self._user_max:
            raise TooManySessions(user)
        self._users.setdefault(user, sessions)[holder] = (device, position)
        self._audiences.setdefault(_target(user), []).append(position)
        self._count += 1

    def remove(self, holder: C, user: str) -> bool:
        """Drop a session; tell whether it was here and was the user's last."""
        sessions = self._users.get(user, {})
        if holder not in sessions:
            return False
        _, position = sessions.pop(holder)
        self._count -= 1
        self._audiences[_target(user)].remove(position)
        if sessions:
            return False
        del self._users[user], self._audiences[_target(user)]
        return True

    def __len__(self) -> int:
        return self._count


def _target(user: str) -> bytes:
    return f"{USER_PREFIX}{user}".encode()
