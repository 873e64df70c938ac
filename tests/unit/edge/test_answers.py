"""edge.answers: what an edge says when it is asked, and what it does not let itself be asked."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edge.answers import WAITING_MAX, Answers, answer
from router.members import Answer
from router.metrics import ANSWERS_DROPPED
from router.settings import Settings


def question(to: str, topic: str = "t") -> bytes:
    """Return what stands in the place of the frame."""
    return msgspec.json.encode({"topic": topic, "to": to})


def answers() -> Answers:
    """Return the answers of an edge that is never given the time to answer."""
    redis: Any = None
    return Answers(redis, Settings(), "me", lambda _: ())


def test_sessions_are_counted_by_user() -> None:
    """In the order of names."""
    assert answer("me", ["bob", "ann", "bob"]) == Answer("me", 3, {"ann": 1, "bob": 2})


def test_only_so_many_users_are_named() -> None:
    """All sessions count; it is told that there are more."""
    assert answer("me", ["a", "b", "c"], most=2) == Answer("me", 3, {"a": 1, "b": 1}, cut=True)


def test_only_answer_channels_are_answered_on() -> None:
    """Whoever may publish on a topic's channel cannot have edges publish elsewhere."""
    for to in ("push:{0}:topic:news", "push:{1}:answer:x", "other:{0}:answer:x"):
        with pytest.raises(ValueError, match="no answer channel"):
            answers().hear(question(to))
    with pytest.raises(ValueError, match="missing required"):
        answers().hear(b'{"topic":"t"}')


def test_a_flood_is_dropped_and_counted() -> None:
    """More than so many do not wait."""
    some, before = answers(), ANSWERS_DROPPED._value.get()
    for number in range(WAITING_MAX + 3):
        some.hear(question(f"push:{{0}}:answer:{number}", f"t{number % 5}"))
    assert ANSWERS_DROPPED._value.get() - before == 3
