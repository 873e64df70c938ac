"""router.members: adding up what the edges answer."""

from __future__ import annotations

import msgspec

from router.members import Answer, Tally, ask_line


def test_answers_are_added_up() -> None:
    """Users on several edges are named once, with all their sessions."""
    tally = Tally(2)
    tally.take(Answer("edge-1.a", 3, {"bob": 1, "alice": 2}))
    assert not tally.done
    tally.take(Answer("edge-2.b", 1, {"alice": 1}))
    assert tally.done
    members = tally.members(10)
    assert members.users == [("alice", 3), ("bob", 1)]
    assert (members.sessions, members.users_total, members.asked, members.answered) == (4, 2, 2, 2)
    assert members.complete


def test_only_so_many_are_named() -> None:
    """The count is of all."""
    tally = Tally(1)
    tally.take(Answer("edge-1.a", 3, {"c": 1, "b": 1, "a": 1}))
    members = tally.members(2)
    assert members.users == [("a", 1), ("b", 1)]
    assert members.users_total == 3
    assert members.complete


def test_who_does_not_answer_leaves_it_incomplete() -> None:
    """A tap counts as asked."""
    tally = Tally(2)
    tally.take(Answer("edge-1.a", 1, {"a": 1}))
    members = tally.members(2)
    assert (members.asked, members.answered, members.complete) == (2, 1, False)


def test_an_edge_that_names_not_all_leaves_it_incomplete() -> None:
    """Its sessions count all the same."""
    tally = Tally(1)
    tally.take(Answer("edge-1.a", 20_000, {"a": 1}, cut=True))
    members = tally.members(2)
    assert (members.sessions, members.complete) == (20_000, False)


def test_an_edge_counts_once() -> None:
    """Whatever has it answer twice."""
    tally = Tally(2)
    for _ in range(2):
        tally.take(Answer("edge-1.a", 1, {"a": 1}))
    assert (tally.done, tally.members(2).sessions) == (False, 1)


def test_nobody_there_is_complete() -> None:
    """A topic without subscribers has no edge to ask."""
    assert Tally(0).members(10).complete


def test_the_question_is_one_line() -> None:
    """Edges tell it by its word, and take the rest for what stands in the place of the frame."""
    word, _, _, _, said = ask_line("news", "push:{0}:answer:5f").split(b" ", 4)
    assert word == b"asked"
    assert msgspec.json.decode(said) == {"topic": "news", "to": "push:{0}:answer:5f"}
