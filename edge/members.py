"""What this node tells of who has subscribed to its topics, so that edges whose clients watch one know its members.

    watched - - - {"topic":"room-7","node":"edge-1.k3f9"}                 somebody there watches: the lease begins, or goes on
    members - - - {"topic":"room-7","node":"edge-2.p07a","users":["bob"]}           the answer of each edge that hears it: all
    members - - - {"topic":"room-7","node":"edge-2.p07a","joined":["carol"]}        while the lease lasts: what has changed
    members - - - {"topic":"room-7","node":"edge-3.x1b2","users":["dan"],"new":true}       of an edge that begins to hear it

All on the topic's channel. A watching edge repeats `watched` before the lease ends, and is answered whole each time, so that
what got lost is healed; with `of` only these nodes answer. Once nobody repeats it the lease runs out, and nothing is told any
more. Of a topic that nobody watches an edge tells its first user, since it cannot know, and, having told it, that none is left.

What is told is the difference between who is there and what was told last; how often somebody came and went in between does not
matter. So whoever hears the lines of a node in order, behind a whole one, knows its users.

Pure: times come in, lines go out. Bounds: a place a topic that this node hears, and most users in a line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

WATCHED: Final = b"watched"
MEMBERS: Final = b"members"
"""In the place of a line's target."""


class Watched(msgspec.Struct, frozen=True, omit_defaults=True):
    """Somebody at `node` watches the topic; `of` are the nodes that are to answer, None is all."""

    topic: str
    node: str
    of: list[str] | None = None


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node tells of a topic's users there.

    Attributes:
        topic: its name.
        node: whose users.
        users: all of them; None where it is said what has changed.
        joined: who has come since the line before.
        left: who has gone since.
        new: the node does not know whether anybody watches: who does is to say so.
    """

    topic: str
    node: str
    users: list[str] | None = None
    joined: list[str] = []
    left: list[str] = []
    new: bool = False


class _Place:
    """What was told of a topic.

    Attributes:
        users: as of the last line; None where that is not known, or the node has only said that it is there.
        until_s: the lease: changes are told until then; of a topic that was never watched, 0.
        kept_until_s: that there is somebody has been told, and is to be taken back until then.
    """

    __slots__ = ("kept_until_s", "until_s", "users")

    def __init__(self) -> None:
        self.users: set[str] | None = None
        self.until_s = 0.0
        self.kept_until_s = 0.0


class Telling:
    """Decides what this node tells.

    Args:
        node: the node id.
        users_of: returns the users with a session that has subscribed to a topic here; a set of the caller's own.
        lease_s: how long changes are told after a `watched`.
        most: a line names one user more at most, which tells that there are too many to watch.
    """

    def __init__(self, node: str, users_of: Callable[[str], set[str]], lease_s: float, most: int) -> None:
        self._node = node
        self._users_of = users_of
        self._lease_s = lease_s
        self._most = most
        self._places: dict[str, _Place] = {}
        # Topic → whether all is to be told.
        self._due: dict[str, bool] = {}

    @property
    def due(self) -> bool:
        """Whether `take` may have something to tell."""
        return bool(self._due)

    def __len__(self) -> int:
        """Of how many topics something is known to have been told."""
        return len(self._places)

    def changed(self, topic: str, *, first: bool = False) -> None:
        """A session has subscribed to a topic, as the `first` of this node, or has left it."""
        if first or topic in self._places:
            self._due.setdefault(topic, False)

    def watched(self, line: Watched, now_s: float) -> None:
        """Somebody watches a topic."""
        answers = line.of is None or self._node in line.of
        if answers or line.topic in self._places:
            self._places.setdefault(line.topic, _Place()).until_s = now_s + self._lease_s
        if answers:
            self._due[line.topic] = True

    def untold(self, topic: str) -> None:
        """A line of this topic may not have got through."""
        if topic in self._places:
            self._places[topic].users = None
        self._due[topic] = True

    def take(self, now_s: float) -> list[Told]:
        """Return what is to be told now, which counts as told; and forget leases that have run out."""
        due, self._due = self._due, {}
        for topic, place in list(self._places.items()):
            if max(place.until_s, place.kept_until_s) <= now_s:
                del self._places[topic]
        return [line for topic, whole in due.items() if (line := self._line(topic, now_s, whole=whole)) is not None]

    def _line(self, topic: str, now_s: float, *, whole: bool) -> Told | None:
        users, place = self._users_of(topic), self._places.get(topic)
        if not users:
            self._places.pop(topic, None)
            return self._all(topic, users) if whole or place is not None else None
        if place is None:
            place = self._places[topic] = _Place()
        if place.until_s <= now_s:
            return self._greet(topic, users, place, now_s, whole=whole)
        place.kept_until_s = place.until_s
        before, place.users = place.users, users
        if whole or before is None:
            return self._all(topic, users)
        return self._change(topic, before, users)

    def _greet(self, topic: str, users: set[str], place: _Place, now_s: float, *, whole: bool) -> Told | None:
        """Say that the node is there, once; who watches will answer with `watched`."""
        if place.kept_until_s and not whole:
            return None
        place.kept_until_s = now_s + self._lease_s
        return Told(topic, self._node, self._named(users), new=True)

    def _change(self, topic: str, before: set[str], users: set[str]) -> Told | None:
        was_over, is_over = len(before) > self._most, len(users) > self._most
        if was_over and is_over:
            return None
        if was_over or is_over:
            return self._all(topic, users)
        joined, left = sorted(users - before), sorted(before - users)
        return Told(topic, self._node, joined=joined, left=left) if joined or left else None

    def _all(self, topic: str, users: set[str]) -> Told:
        return Told(topic, self._node, self._named(users))

    def _named(self, users: set[str]) -> list[str]:
        return sorted(users)[: self._most + 1]
