"""The checker itself: one small history a verdict, each wrong in exactly one way."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.checker import Kind, Verdict, check
from tests.chaos.history import (
    Accepted,
    Appended,
    Began,
    Came,
    Closed,
    DeviceKind,
    Event,
    FaultBegan,
    FaultEnded,
    Got,
    History,
    Joined,
    Opened,
    Told,
    Tried,
    Went,
)

TARGET = "user:ann"
PHONE = "ann/phone"
STEP_S = 0.1


class Story:
    """A history of one producer and the devices of one user; a tenth of a second passes with each event."""

    def __init__(self, *seqs: int) -> None:
        self.events: list[Event] = []
        self.accepted: list[Accepted] = []
        for seq in seqs:
            self.append(seq)

    @property
    def at_s(self) -> float:
        """The time of the next event."""
        return (len(self.events) + 1) * STEP_S

    def append(self, seq: int, *, accepted: bool = True) -> None:
        """Have a producer append message m<seq>."""
        self.tell(Tried(self.at_s, "p", f"m{seq}", TARGET), Appended(self.at_s, "p", f"m{seq}", TARGET, f"{seq}-0"))
        if accepted:
            self.accepted.append(Accepted(TARGET, seq, f"m{seq}", 0.0))

    def join(self, kind: DeviceKind = "client", *, began: int | None = 0, device: str = PHONE) -> None:
        """Begin a life of the device, and connect it."""
        self.tell(Joined(self.at_s, device, kind), Came(self.at_s, device))
        if began is not None:
            self.tell(Began(self.at_s, device, TARGET, began))
        self.open(device)

    def open(self, device: str = PHONE, since: int | None = None) -> None:
        """Have the device get a welcome."""
        self.tell(Opened(self.at_s, device, "s", "edge-1.x", since, 0))

    def get(self, *seqs: int, device: str = PHONE) -> None:
        """Have the device get messages."""
        for seq in seqs:
            self.tell(Got(self.at_s, device, seq, f"m{seq}", TARGET))

    def tell(self, *events: Event) -> None:
        """Append events as they are."""
        self.events += events

    def verdict(self) -> Verdict:
        """Check it."""
        return check(History.of_events(self.events), self.accepted)

    def kinds(self) -> dict[Kind, int]:
        """Check it, and count what is wrong."""
        return dict(self.verdict().counts)


def test_all_well() -> None:
    """Everything accepted reached the device in order and once: nothing to find."""
    story = Story(11, 12, 13)
    story.join()
    story.get(11, 12, 13)

    verdict = story.verdict()
    assert verdict.green
    assert (verdict.figures.appended, verdict.figures.accepted, verdict.figures.deliveries) == (3, 3, 3)


def test_lost() -> None:
    """What the last device online never got is lost; one that nobody missed was not owed."""
    story = Story(9, 11, 12)
    story.join(began=10)
    story.get(11)
    assert story.kinds() == {Kind.LOST: 1}


def test_gap_never_filled() -> None:
    """What was passed over and never came is a gap, and lost."""
    story = Story(11, 12, 13)
    story.join()
    story.get(11, 13)
    assert story.kinds() == {Kind.GAP: 1, Kind.LOST: 1}


def test_gap_filled_too_late() -> None:
    """What was passed over and came later is a gap, and out of order."""
    story = Story(11, 12, 13)
    story.join()
    story.get(11, 13, 12)
    assert story.kinds() == {Kind.GAP: 1, Kind.OUT_OF_ORDER: 1}


def test_gap_across_connections() -> None:
    """A bare device that is sent on from a later place than it had reached has a gap, though each connection is in order."""
    story = Story(11, 12, 13)
    story.join("raw")
    story.get(11)
    story.open(since=11)
    story.get(13)
    story.open(since=11)
    story.get(12, 13)
    assert story.kinds() == {Kind.GAP: 1}


def test_duplicated_after_the_client() -> None:
    """Through the client library nothing comes twice in one life, whatever happens to its connections."""
    story = Story(11, 12)
    story.join()
    story.get(11)
    story.open()
    story.get(11, 12)
    assert story.kinds() == {Kind.DUPLICATED: 1}


def test_repeated_in_another_life() -> None:
    """A client that starts anew from an older cursor may be sent again what it had."""
    story = Story(11, 12)
    story.join()
    story.get(11)
    story.join(began=None)
    story.get(11, 12)

    verdict = story.verdict()
    assert verdict.green
    assert verdict.figures.repeats == 1


def test_repeated_on_another_connection() -> None:
    """A bare device may see a seq again on its next connection, and not on the same one."""
    story = Story(11, 12)
    story.join("raw")
    story.get(11, 12)
    story.open()
    story.get(11, 12)
    assert story.verdict().green

    story.get(12)
    assert story.kinds() == {Kind.DUPLICATED: 1}


def test_sent_what_since_says() -> None:
    """A bare device that says what it has is not sent that again."""
    story = Story(11, 12)
    story.join("raw")
    story.get(11, 12)
    story.open(since=12)
    story.get(12)
    assert story.kinds() == {Kind.DUPLICATED: 1}


def test_begins_anew() -> None:
    """With another cursor, such as that of a wrong clock, a device is owed what is above it: all of that, and no more."""
    story = Story(11, 12, 13)
    story.join(began=10)
    story.join(began=12)
    story.get(13)
    assert story.verdict().green

    story.join(began=11)
    story.get(12)
    assert story.kinds() == {Kind.LOST: 1}


def test_never_accepted() -> None:
    """What Redis took and MongoDB does not have is a finding apart, and excused by a failover alone."""
    story = Story(11)
    story.append(12, accepted=False)
    story.join()
    story.get(11)
    assert story.kinds() == {Kind.NEVER_ACCEPTED: 1}

    story.tell(FaultBegan(story.at_s, "1", "failover", "redis", ""))
    verdict = story.verdict()
    assert verdict.green
    assert [finding.kind for finding in verdict.excused] == [Kind.NEVER_ACCEPTED]


def test_tried_only() -> None:
    """What Redis never answered for is owed to nobody."""
    story = Story()
    story.tell(Tried(story.at_s, "p", "m11", TARGET))
    assert story.verdict().green


def test_told_what_is_not_stored() -> None:
    """A message that a device got and MongoDB does not have was told before it was stored."""
    story = Story(11)
    story.append(12, accepted=False)
    story.join()
    story.get(11, 12)
    assert story.kinds() == {Kind.UNSTORED: 1, Kind.NEVER_ACCEPTED: 1}


def test_stored_twice() -> None:
    """One id under two seqs is found in the inbox."""
    story = Story(11)
    story.accepted.append(Accepted(TARGET, 12, "m11", 0.0))
    assert story.kinds() == {Kind.STORED_TWICE: 1}


def test_told_twice() -> None:
    """One id under two seqs is found at the device as well, where the inbox holds one of them only."""
    story = Story(11)
    story.join()
    story.get(11)
    story.tell(Got(story.at_s, PHONE, 12, "m11", TARGET))
    assert story.kinds() == {Kind.STORED_TWICE: 1}


def test_producers_order() -> None:
    """What a producer appends to one stream keeps its order within a target."""
    story = Story(12, 11)
    assert story.kinds() == {Kind.PRODUCER_ORDER: 1}


def test_told_of_a_loss() -> None:
    """A `lost` frame has no place in a run that is shorter than the retention."""
    story = Story()
    story.join()
    story.tell(Told(story.at_s, PHONE, TARGET, 1, 2))
    assert story.kinds() == {Kind.TOLD_LOST: 1}


def test_turned_away() -> None:
    """A device that is told not to come back has lost everything behind that; whatever other code it was is its own trouble."""
    story = Story(11)
    story.join()
    story.get(11)
    for code in (4502, 4002, 1006, None):
        story.tell(Closed(story.at_s, PHONE, code))
        story.open()
    assert story.kinds() == {Kind.TURNED_AWAY: 1}


def test_absent() -> None:
    """Of a device that is not connected at the end nothing can be said, which is a finding of its own."""
    story = Story(11)
    story.join()
    story.tell(Closed(story.at_s, PHONE, 4001))
    assert story.kinds() == {Kind.ABSENT: 1}

    story.open()
    story.get(11)
    story.tell(Went(story.at_s, PHONE))
    assert story.kinds() == {Kind.ABSENT: 1}


def test_recovery() -> None:
    """A fault was felt until the last device that it delayed had all that was appended; the others do not count."""
    story = Story()
    story.join(began=0)
    story.join(began=0, device="ann/tab")
    story.join(began=0, device="ann/car")
    began_s = story.at_s
    story.tell(FaultBegan(began_s, "1", "kill", "edge-1", ""))
    story.tell(FaultEnded(began_s + 1, "1"))
    story.accepted = [Accepted(TARGET, seq, f"m{seq}", 0.0) for seq in (11, 12)]
    for seq, after_s in ((11, 0.1), (12, 0.9)):
        story.tell(Appended(began_s + after_s, "p", f"m{seq}", TARGET, "e"))
    story.tell(Got(began_s + 0.2, PHONE, 11, "m11", TARGET), Got(began_s + 1.0, PHONE, 12, "m12", TARGET))
    story.tell(Got(began_s + 2.0, "ann/tab", 11, "m11", TARGET), Got(began_s + 3.0, "ann/tab", 12, "m12", TARGET))
    story.tell(Came(began_s + 3.0, "ann/car"))
    story.tell(Got(began_s + 3.1, "ann/car", 11, "m11", TARGET), Got(began_s + 3.1, "ann/car", 12, "m12", TARGET))

    verdict = story.verdict()
    assert verdict.green
    (recovery,) = verdict.recoveries
    assert [round(after_s, 6) for after_s in recovery.after_s] == [3.0]
    assert recovery.max_s is not None
    assert round(recovery.since_end(recovery.max_s), 6) == 2.0


def test_history_on_disk(tmp_path: Path) -> None:
    """A history that was written and read again is the same."""
    story = Story(11)
    story.join()
    story.get(11)
    path = tmp_path / "history.jsonl"
    History.of_events(story.events).dump(path)
    assert list(History.load(path)) == story.events


def test_message_that_passes_a_device_by_is_not_owed() -> None:
    """Neither lost nor a gap to the device that it names, and both to any other."""
    story = Story(11, 13)
    story.accepted.append(Accepted(TARGET, 12, "m12", 0.0, exclude="device:ann,phone"))
    story.join()
    story.get(11, 13)
    assert story.kinds() == {}
    story.join(device="ann/laptop")
    story.get(11, 13, device="ann/laptop")
    assert story.kinds() == {Kind.GAP: 1, Kind.LOST: 1}


def test_got_though_it_passes_by() -> None:
    """A device that gets what names it is told of."""
    story = Story(11)
    story.accepted.append(Accepted(TARGET, 12, "m12", 0.0, exclude="device:ann,phone"))
    story.join()
    story.get(11, 12)
    assert story.kinds() == {Kind.EXCLUDED: 1}


def test_only_what_has_a_newer_one_of_its_key_may_be_left_out() -> None:
    """The newest of a key is owed like any other message."""
    story = Story()
    story.accepted = [Accepted(TARGET, seq, f"m{seq}", 0.0, collapse=key) for seq, key in ((11, "k"), (12, "l"), (13, "k"))]
    story.join()
    story.get(13)
    assert story.kinds() == {Kind.GAP: 1, Kind.LOST: 1}
    story.join(device="ann/laptop")
    story.get(12, 13, device="ann/laptop")
    assert story.kinds() == {Kind.GAP: 1, Kind.LOST: 1}


def test_early() -> None:
    """Got before its time, and not where the producer has said it again without one."""
    story = Story()
    story.tell(Tried(story.at_s, "p", "m11", TARGET, due_s=60.0))
    story.accepted.append(Accepted(TARGET, 11, "m11", 0.0))
    story.join()
    story.get(11)
    assert story.kinds() == {Kind.EARLY: 1}
    story.events.insert(1, Tried(story.at_s, "p", "m11", TARGET))
    assert story.kinds() == {}
