"""edge.members: what a node tells of who has subscribed, and when it tells nothing."""

from __future__ import annotations

import msgspec

from edge.members import Telling, Told, Watched

LEASE_S = 60.0


class Node:
    """A node whose users of each topic the test sets."""

    def __init__(self, most: int = 100) -> None:
        self.users: dict[str, set[str]] = {}
        self.telling = Telling("me", lambda topic: set(self.users.get(topic, ())), LEASE_S, most)

    def have(self, *users: str, topic: str = "t") -> None:
        """Have these users, and nobody else."""
        before = self.users.get(topic, set())
        self.users[topic] = {*users}
        self.telling.changed(topic, first=not before)

    def watch(self, now_s: float, of: list[str] | None = None) -> list[Told]:
        """Have somebody watch, and return what is told."""
        self.telling.watched(Watched("t", "you", of), now_s)
        return self.telling.take(now_s)


def test_who_is_first_is_told_once() -> None:
    """An edge that begins to hear a topic cannot know whether anybody watches; after that it keeps silent."""
    node = Node()
    node.have("ann")
    assert node.telling.take(0.0) == [Told("t", "me", ["ann"], new=True)]
    node.have("ann", "bob")
    assert node.telling.take(0.1) == []


def test_what_was_told_is_taken_back() -> None:
    """The last one to leave is told, though nobody may have heard of the first."""
    node = Node()
    node.have("ann")
    node.telling.take(0.0)
    node.have()
    assert node.telling.take(0.1) == [Told("t", "me", [])]
    assert len(node.telling) == 0


def test_who_comes_and_goes_at_once_is_not_told() -> None:
    """Churn on a topic that nobody watches makes no lines."""
    node = Node()
    node.have("ann")
    node.have()
    assert node.telling.take(0.0) == []
    assert len(node.telling) == 0


def test_who_watches_is_told_all_and_then_what_changes() -> None:
    """Whole first, and only the difference after that, whatever happened in between."""
    node = Node()
    node.have("ann", "bob")
    assert node.watch(0.0) == [Told("t", "me", ["ann", "bob"])]
    node.have("bob")
    node.have("bob", "carol", "dan")
    assert node.telling.take(0.1) == [Told("t", "me", joined=["carol", "dan"], left=["ann"])]
    node.telling.changed("t")
    assert node.telling.take(0.2) == []


def test_each_question_is_answered_whole() -> None:
    """That heals what got lost; so does the answer of a node that has nobody."""
    node = Node()
    assert node.watch(0.0) == [Told("t", "me", [])]
    node.have("ann")
    node.watch(1.0)
    assert node.watch(2.0) == [Told("t", "me", ["ann"])]


def test_a_question_to_others_is_a_lease_all_the_same() -> None:
    """And the first change after it is told whole, for whoever asked has nothing yet."""
    node = Node()
    node.have("ann")
    node.telling.take(0.0)
    assert node.watch(0.1, of=["other"]) == []
    node.have("ann", "bob")
    assert node.telling.take(0.2) == [Told("t", "me", ["ann", "bob"])]
    assert node.watch(0.3, of=["me"]) == [Told("t", "me", ["ann", "bob"])]


def test_the_lease_runs_out() -> None:
    """When nobody repeats the question nothing is told, and nothing is kept."""
    node = Node()
    node.have("ann")
    node.watch(0.0)
    node.telling.take(LEASE_S)
    node.have("ann", "bob")
    assert node.telling.take(LEASE_S) == []
    assert len(node.telling) == 0


def test_a_line_names_one_too_many_at_most() -> None:
    """That says that there are too many; while there are, changes are not told."""
    node = Node(most=2)
    node.have("a", "b", "c", "d")
    assert node.watch(0.0) == [Told("t", "me", ["a", "b", "c"])]
    node.have("a", "b", "c", "d", "e")
    assert node.telling.take(0.1) == []
    node.have("a")
    assert node.telling.take(0.2) == [Told("t", "me", ["a"])]
    node.have("a", "b", "c")
    assert node.telling.take(0.3) == [Told("t", "me", ["a", "b", "c"])]


def test_what_was_not_told_is_told_whole() -> None:
    """Also of a topic that the node hears no more."""
    node = Node()
    node.have("ann")
    node.watch(0.0)
    node.telling.untold("t")
    assert node.telling.take(0.1) == [Told("t", "me", ["ann"])]
    node.have()
    node.telling.take(0.2)
    node.telling.untold("t")
    assert node.telling.take(0.3) == [Told("t", "me", [])]


def test_a_greeting_that_was_not_told_is_told_again() -> None:
    """Whoever watches would not hear of the node otherwise."""
    node = Node()
    node.have("ann")
    node.telling.take(0.0)
    node.telling.untold("t")
    assert node.telling.take(0.1) == [Told("t", "me", ["ann"], new=True)]


def test_a_line_says_only_what_there_is() -> None:
    """As documented."""
    encode = msgspec.json.encode
    assert encode(Told("t", "me", [])) == b'{"topic":"t","node":"me","users":[]}'
    assert encode(Told("t", "me", joined=["a"])) == b'{"topic":"t","node":"me","joined":["a"]}'
    assert encode(Watched("t", "me")) == b'{"topic":"t","node":"me"}'
