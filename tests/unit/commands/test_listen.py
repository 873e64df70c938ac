"""router.commands.listen: what a person is told about the connection."""

from __future__ import annotations

import pytest

from edge.client import (
    CaughtUp,
    Joined,
    Left,
    Lost,
    Members,
    Noticed,
    NoToken,
    Parted,
    Refused,
    Status,
    Subscribed,
    Unsubscribed,
    Welcomed,
)
from router.commands import listen

WELCOMED = Welcomed("ws://e", "alice", "s1", "edge-1.x")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (WELCOMED, "listening as alice on edge-1.x (ws://e)"),
        (Parted("ws://e", "nothing listens there", 1.26), "not connected to ws://e: nothing listens there; again in 1.3 s"),
        (NoToken("auth is away", 0.5), "no token: auth is away; again in 0.5 s"),
        (
            Lost("user:alice", 3, 9),
            "what is older than the cluster retains cannot be had any more: something between 3 and 9",
        ),
        (
            Noticed({"type": "bye", "reason": "draining", "retry_after_ms": 7}),
            "the edge is about to close the connection: draining",
        ),
        (
            Lost("topic:news", 3, 9),
            "what is older than the cluster retains cannot be had any more: something of topic:news between 3 and 9",
        ),
        (Subscribed("news", 5), "listening to topic:news"),
        (Unsubscribed("news"), "not listening to topic:news any more"),
        (Members("news", ("alice", "bob")), "topic:news is heard by alice, bob"),
        (Members("news", ()), "topic:news is heard by nobody"),
        (Joined("news", "carol"), "carol has come to topic:news"),
        (Left("news", "carol"), "carol has left topic:news"),
        (Refused("forbidden", "subscribe: no"), "the edge refused something: subscribe: no (forbidden)"),
        (Noticed({"type": "expiring", "in_s": 30}), "the token ends in 30 s: sending a newer one"),
        (Noticed({"type": "extended", "in_s": 3600}), "listening on with the newer token, for 3600 s"),
        (Noticed({"type": "novelty", "n": 1}), 'the edge sent a frame of its own: {"type":"novelty","n":1}'),
    ],
)
def test_what_happens_to_the_connection_is_said_in_words(
    status: Status, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error, a line each; only a frame that this version has not heard of is shown as it came."""
    listen.Teller().tell(status)
    assert capsys.readouterr() == ("", f"{words}\n")


@pytest.mark.parametrize(
    ("before", "missed", "said"),
    [(0, 0, ""), (5, 0, ""), (0, 1, "caught up: 1 missed message\n"), (5, 1_200, "caught up: 1,200 missed messages\n")],
)
def test_what_was_missed_is_told_where_something_was(
    before: int, missed: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counted from the welcome on: a new device has missed nothing, and nor has one that was there all the time."""
    teller = listen.Teller()
    for _message in range(before):
        teller.count("user:alice")
    teller.tell(WELCOMED)
    capsys.readouterr()
    for _message in range(missed):
        teller.count("user:alice")
    teller.tell(CaughtUp("user:alice", 7))
    assert capsys.readouterr() == ("", said)


def test_each_target_is_counted_for_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """The user's own goes without saying."""
    teller = listen.Teller()
    for to in ("topic:news", "user:alice", "topic:news"):
        teller.count(to)
    for to in ("user:alice", "all", "topic:news"):
        teller.tell(CaughtUp(to, 7))
    assert capsys.readouterr().err == "caught up: 1 missed message\ncaught up: 2 missed messages of topic:news\n"
