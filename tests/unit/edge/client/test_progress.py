"""edge.client.progress: when it is due to keep and acknowledge, and whose cursors are taken."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from edge.client.frames import Message, Unintelligible
from edge.client.progress import CursorsOfAnother, Progress

ALICE = "user:alice"


def message(seq: int | None, to: str = ALICE) -> Message:
    """A message of Alice's."""
    return Message(to, "m", 1, seq, None, None, "")


def progress(
    kept: Mapping[str, int] | None = None, since: int | None = None, *, device: bool = True, every: int = 3
) -> Progress:
    """The progress of a client that has been welcomed at 0 s, when the head was 10."""
    begun = Progress(kept or {}, since, device=device, ack_every=every, ack_interval_s=1.0)
    begun.welcomed("alice", 10, 0.0)
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
    ours.note_kept()
    assert (ours.due_s, ours.unkept) == (6.0, False)
    ours.note_acked()
    assert (ours.due_s, ours.unacked()) == (math.inf, {})
    handle(ours, 13, 14, now_s=9.0)
    assert ours.due_s == 10.0


def test_without_device_nothing_is_acknowledged() -> None:
    """The edge would not know for whom; cursors are kept all the same."""
    ours = progress(device=False)
    ours.note_kept()
    handle(ours, 11)
    assert ours.unacked() == {}
    assert ours.unkept
    ours.note_kept()
    assert ours.due_s == math.inf


def test_start_without_device_is_kept_at_once() -> None:
    """Where it began is known to nobody else."""
    ours = progress(device=False)
    assert (ours.cursors, ours.due_s, ours.since()) == ({ALICE: 10}, 0.0, {"user": 10})


@pytest.mark.parametrize("device", [True, False])
def test_cursor_kept_wins_over_since_and_since_over_the_edge(device: bool) -> None:
    """`since` is for the very first time."""
    assert progress({ALICE: 7}, 3, device=device).since() == {"user": 7}
    assert progress({}, 3, device=device).since() == {"user": 3}


def test_every_target_that_can_be_asked_for_is() -> None:
    """A kind of target that a newer edge may have is kept, and not asked for."""
    ours = progress({ALICE: 1, "all": 2, "topic:news": 3, "group:x": 4})
    assert ours.since() == {"user": 1, "all": 2, "topic:news": 3}
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
