"""edge.client.progress: when it is due to keep and acknowledge, and whose cursors are taken."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from edge.client.frames import Message, Unintelligible
from edge.client.progress import CursorsOfAnother, Progress

ALICE = "user:alice"
NEWS = "topic:news"


def message(seq: int | None, to: str = ALICE) -> Message:
    """A message of Alice's."""
    return Message(to, "m", 1, seq, None, None, "")


def progress(
    kept: Mapping[str, int] | None = None, since: int | None = None, *, device: bool = True, every: int = 3
) -> Progress:
    """The progress of a client that has been welcomed at 0 s, when its head was 10 and that of all 20."""
    begun = Progress(kept or {}, since, device=device, ack_every=every, ack_interval_s=1.0)
    begun.welcomed("alice", 10, 20, 0.0)
    return begun


def handle(ours: Progress, *seqs: int | None, now_s: float = 0.0, to: str = ALICE) -> None:
    """Have messages handed out and handled."""
    for seq in seqs:
        assert ours.take(message(seq, to))
        ours.handled(now_s)


def test_nothing_is_due_before_anything_is_handled() -> None:
    """A device without a cursor of its own begins where the edge has it, and has nothing to tell."""
    ours = progress()
    assert (ours.due_s, ours.since(), ours.unkept) == (math.inf, {}, False)
    assert ours.take(message(11))
    assert ours.due_s == math.inf


def test_due_an_interval_after_the_first() -> None:
    """However many follow the first, as long as they are few."""
    ours = progress()
    handle(ours, 11, now_s=5.0)
    handle(ours, 12, now_s=5.9)
    assert ours.due_s == 6.0
    assert ours.unacked() == {ALICE: 12}


def test_due_at_once_when_there_are_many() -> None:
    """The bound on what comes again after a crash."""
    ours = progress()
    handle(ours, 11, 12, 13, now_s=5.0)
    assert ours.due_s == 5.0


def test_stays_due_until_both_kept_and_acknowledged() -> None:
    """An ack that found no connection is made up for later; the count begins anew after both."""
    ours = progress()
    handle(ours, 11, 12, now_s=5.0)
    ours.note_kept(ours.to_keep())
    assert (ours.due_s, ours.unkept) == (6.0, False)
    ours.note_acked()
    assert (ours.due_s, ours.unacked()) == (math.inf, {})
    handle(ours, 13, 14, now_s=9.0)
    assert ours.due_s == 10.0


def test_without_device_nothing_is_acknowledged() -> None:
    """The edge would not know for whom; cursors are kept all the same."""
    ours = progress(device=False)
    ours.note_kept(ours.to_keep())
    handle(ours, 11)
    assert ours.unacked() == {}
    assert ours.unkept
    ours.note_kept(ours.to_keep())
    assert ours.due_s == math.inf


def test_start_without_device_is_kept_at_once() -> None:
    """Where it began is known to nobody else."""
    ours = progress(device=False)
    assert (ours.cursors, ours.due_s, ours.since()) == ({ALICE: 10, "all": 20}, 0.0, {"user": 10, "all": 20})


@pytest.mark.parametrize("device", [True, False])
def test_cursor_kept_wins_over_since_and_since_over_the_edge(device: bool) -> None:
    """`since` is for the very first time."""
    assert progress({ALICE: 7}, 3, device=device).since()["user"] == 7
    assert progress({}, 3, device=device).since()["user"] == 3


def test_every_target_that_is_wanted_is_asked_for() -> None:
    """A topic that is not is kept all the same, as is a kind of target that a newer edge may have."""
    ours = progress({ALICE: 1, "all": 2, "topic:news": 3, "group:x": 4})
    assert ours.since(["news", "sport"]) == {"user": 1, "all": 2, "topic:news": 3}
    assert ours.since() == {"user": 1, "all": 2}
    handle(ours, 5, to="topic:news")
    handle(ours, None, to="all")
    assert ours.cursors == {ALICE: 1, "all": 2, "topic:news": 5, "group:x": 4}
    assert ours.unacked() == {"topic:news": 5}


def test_caught_up_moves_the_cursor_forward_only() -> None:
    """What lies before it has come or has expired; an older one says nothing new."""
    ours = progress()
    ours.caught_up(ALICE, 20, 5.0)
    ours.caught_up(ALICE, 15, 5.0)
    assert (ours.cursors, ours.due_s) == ({ALICE: 20}, 6.0)
    assert not ours.take(message(20))


def test_cursors_of_another_user_are_refused() -> None:
    """They would pass over this one's messages; the error names both."""
    with pytest.raises(CursorsOfAnother, match=r"alice's.*user:bob") as refused:
        progress({"user:bob": 7})
    assert (refused.value.user, refused.value.target) == ("alice", "user:bob")


def test_message_of_another_user_is_no_message() -> None:
    """Nor is one before the welcome."""
    with pytest.raises(Unintelligible, match="user:bob on a session of user:alice"):
        progress().take(message(11, "user:bob"))
    with pytest.raises(Unintelligible, match="nobody yet"):
        Progress({}, None, device=False, ack_every=1, ack_interval_s=1.0).take(message(1))


@pytest.mark.parametrize(("device", "cursors"), [(True, {}), (False, {ALICE: 10, "all": 20, NEWS: 30})])
def test_all_and_topics_begin_at_their_heads(device: bool, cursors: dict[str, int]) -> None:
    """Those of the first welcome and of the first `subscribed`, unless the edge keeps the device's."""
    ours = progress(device=device)
    ours.subscribed(NEWS, 30, 0.0)
    assert ours.cursors == cursors
    ours.welcomed("alice", 11, 21, 0.0)
    ours.subscribed(NEWS, 31, 0.0)
    assert ours.cursors == cursors


def test_older_edge_tells_no_head_of_all() -> None:
    """The first message to all is the first cursor then."""
    ours = Progress({}, None, device=False, ack_every=3, ack_interval_s=1.0)
    ours.welcomed("alice", 10, None, 0.0)
    assert ours.since() == {"user": 10}
    handle(ours, 25, to="all")
    assert ours.since() == {"user": 10, "all": 25}


def test_topic_given_up_begins_anew() -> None:
    """Its cursor is forgotten by the client and by the store, and the message in hand moves none."""
    ours = progress(device=False)
    ours.subscribed(NEWS, 30, 0.0)
    ours.note_kept(ours.to_keep())
    assert ours.take(message(31, NEWS))
    assert ours.unsubscribe(NEWS, 5.0) is None
    ours.handled(5.0)
    assert (ours.to_keep(), ours.unkept, ours.due_s) == ({ALICE: 10, "all": 20}, True, 5.0)
    ours.note_kept(ours.to_keep())
    ours.subscribe(NEWS, None, 6.0)
    assert (ours.since(["news"]), ours.unkept) == ({"user": 10, "all": 20}, False)
    ours.subscribed(NEWS, 40, 7.0)
    assert ours.since(["news"]) == {"user": 10, "all": 20, NEWS: 40}


def test_device_goes_on_with_a_topic_where_it_gave_it_up() -> None:
    """The edge may have an older cursor; what was handled, the message in hand included, does not come again."""
    ours = progress()
    handle(ours, 31, to=NEWS)
    assert ours.take(message(32, NEWS))
    assert ours.unsubscribe(NEWS, 5.0) == 31
    assert (ours.cursors, ours.unacked()) == ({}, {})
    ours.handled(5.0)
    assert ours.cursors == {}
    ours.subscribe(NEWS, None, 6.0)
    assert ours.since(["news"]) == {NEWS: 32}


@pytest.mark.parametrize("device", [True, False])
def test_since_of_a_topic_counts_where_no_cursor_is(device: bool) -> None:
    """So too behind one that was given up; a message of before, in hand, does not pass over what is to come again."""
    ours = progress({NEWS: 30}, device=device)
    ours.subscribe(NEWS, 3, 0.0)
    assert ours.cursors[NEWS] == 30
    assert ours.take(message(31, NEWS))
    ours.unsubscribe(NEWS, 0.0)
    ours.subscribe(NEWS, 3, 0.0)
    ours.handled(0.0)
    assert ours.cursors[NEWS] == 3


def test_cursor_that_goes_back_is_forgotten_by_the_store_first() -> None:
    """No store need tell an older cursor from one that is out of order."""
    ours = progress({NEWS: 30}, device=False)
    ours.unsubscribe(NEWS, 0.0)
    ours.subscribe(NEWS, 3, 0.0)
    first = ours.to_keep()
    ours.note_kept(first)
    assert NEWS not in first
    assert ours.unkept
    ours.note_kept(ours.to_keep())
    assert (ours.cursors[NEWS], ours.unkept, ours.due_s) == (3, False, math.inf)


def test_topic_given_up_while_the_store_was_at_work_is_forgotten_next() -> None:
    """It had been told of it already."""
    ours = progress({NEWS: 30}, device=False)
    kept = ours.to_keep()
    ours.unsubscribe(NEWS, 0.0)
    ours.note_kept(kept)
    assert ours.unkept
    assert NEWS not in ours.to_keep()


def test_what_since_said_of_a_topic_is_not_acknowledged() -> None:
    """The edge would not take it before it has joined the topic."""
    ours = progress()
    handle(ours, 11)
    handle(ours, 31, to=NEWS)
    assert ours.unacked() == {ALICE: 11, NEWS: 31}
    ours.welcomed("alice", 10, 20, 0.0)
    assert ours.unacked() == {ALICE: 11}
