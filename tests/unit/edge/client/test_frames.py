"""edge.client.frames: what a client takes from an edge, however rude, and what it says."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from edge.client.frames import (
    SEQ_MAX,
    Unintelligible,
    ack_frame,
    connect_address,
    connect_frame,
    decode,
    read_expiring_s,
    read_message,
    read_progress,
    read_retry_after_s,
    read_welcome,
)

MESSAGE: Final[dict[str, Any]] = {"type": "message", "to": "user:alice", "id": "m", "ts": 1, "seq": 5, "body": 1}
WELCOME: Final[dict[str, Any]] = {"type": "welcome", "user": "a", "session": "s", "node": "n", "seq": 5, "heartbeat": 25}


@pytest.mark.parametrize("raw", [b"{}", "", "x", "[]", "null", "[" * 100_000, '{"seq":NaN}', "1" * 5_000])
def test_what_is_no_object_is_unintelligible(raw: str | bytes) -> None:
    """Binary, broken, absurd, or JSON of another kind."""
    with pytest.raises(Unintelligible):
        decode(raw)


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": 1},
        {"to": "topic:\ud800"},
        {"id": None},
        {"ts": "1"},
        {"seq": "5"},
        {"seq": True},
        {"seq": 5.0},
        {"seq": -1},
        {"seq": SEQ_MAX + 1},
        {"text": 1},
    ],
)
def test_message_with_a_wrong_field_is_none(wrong: dict[str, Any]) -> None:
    """Above all a seq that could not be sent back."""
    with pytest.raises(Unintelligible):
        read_message(MESSAGE | wrong, "")


@pytest.mark.parametrize("more", [{}, {"novelty": 1}, {"to": "topic:Nähe"}, {"seq": SEQ_MAX}, {"seq": None}])
def test_message_with_something_more_is_one(more: dict[str, Any]) -> None:
    """A newer edge may say more."""
    assert read_message(MESSAGE | more, "raw").frame == "raw"


@pytest.mark.parametrize("wrong", [{"user": 1}, {"session": None}, {"node": []}, {"seq": -1}, {"seq": None}])
def test_welcome_with_a_wrong_field_is_none(wrong: dict[str, Any]) -> None:
    """The client could not begin with it."""
    with pytest.raises(Unintelligible):
        read_welcome(WELCOME | wrong)


@pytest.mark.parametrize(
    ("told", "heartbeat_s"),
    [(25, 25.0), (0.5, 0.5), (0, 0.05), (-1, 0.05), (10**400, 25.0), (1e300, 600.0), ("25", 25.0), (None, 25.0), (True, 25.0)],
)
def test_heartbeat_is_usable_whatever_the_edge_says(told: object, heartbeat_s: float) -> None:
    """The client counts on it for its own pings."""
    assert read_welcome(WELCOME | {"heartbeat": told}).heartbeat_s == heartbeat_s


@pytest.mark.parametrize(("told", "after_s"), [(7, 0.007), (-5, 0.0), (10**400, 600.0), ("7", None), (None, None)])
def test_retry_after_is_bounded(told: object, after_s: float | None) -> None:
    """A wrong figure silences no client for good."""
    assert read_retry_after_s({"retry_after_ms": told}) == after_s


@pytest.mark.parametrize(("told", "in_s"), [(7, 7.0), (0.5, 0.5), (-5, 0.0), (10**400, 30.0), ("7", 30.0), (90, 30.0)])
def test_expiring_is_bounded(told: object, in_s: float) -> None:
    """So long a new token is waited for at most."""
    assert read_expiring_s({"in_s": told}, 30.0) == in_s


def test_progress_needs_a_target_and_all_its_seqs() -> None:
    """Or it is a frame like any other."""
    lost = {"to": "all", "from": 3, "until": 9}
    assert read_progress(lost, "from", "until") == ("all", [3, 9])
    assert read_progress(lost | {"until": "9"}, "from", "until") is None
    assert read_progress({"seq": 3}, "seq") is None


def test_cursors_go_along_in_either_way() -> None:
    """In the address the user's own has no name."""
    since = {"user": 5, "topic:news": 7}
    assert connect_address("ws://e/v1/connect", None, {}) == "ws://e/v1/connect"
    address = connect_address("ws://e/v1/connect?a=b", "phone", since)
    assert address == "ws://e/v1/connect?a=b&device=phone&since=5%2Ctopic%3Anews%3A7"
    assert json.loads(connect_frame("t", "phone", since)) == {
        "type": "connect",
        "token": "t",
        "device": "phone",
        "since": since,
    }


def test_ack_names_every_target_but_the_own() -> None:
    """Which is the default."""
    assert json.loads(ack_frame("user:alice", 5)) == {"type": "ack", "seq": 5}
    assert json.loads(ack_frame("all", 5)) == {"type": "ack", "seq": 5, "to": "all"}
