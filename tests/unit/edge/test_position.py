"""edge.position: in order, once, whatever comes in which order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.position import Position, Verdict
from tests.unit.edge.outlets import KeptOutlet

LIMIT = 1_000


def position(head: int | None = None) -> Position:
    """Return a position, started where `head` is given."""
    made = Position(KeptOutlet(), "user:a", LIMIT)
    if head is not None:
        made.start(head)
    return made


def test_the_worked_example_of_the_module() -> None:
    """Prev <= last < seq delivers; the same again is a duplicate; a prev not seen is a gap, and then all is to be read."""
    at = position(10)
    assert at.take(10, 11, b"") is Verdict.DELIVER
    assert at.take(10, 11, b"") is Verdict.DUPLICATE
    assert at.take(12, 13, b"13") is Verdict.GAP
    assert (at.at, at.goal) == (11, 13)
    assert at.take(13, 14, b"14") is Verdict.BEHIND
    at.read(13)
    assert at.arrive(13) == [(b"14", "")]
    assert at.goal is None
    assert at.take(14, 15, b"") is Verdict.DELIVER


def test_what_is_heard_on_the_way_moves_the_goal() -> None:
    """A little is kept and follows the last page, of more only the last; the rest is read, and what MongoDB lacks is gone."""
    at = position(10)
    at.fall_behind(20)
    assert at.take(20, 21, b"x" * 70_000) is Verdict.BEHIND
    assert at.take(21, 22, b"22") is Verdict.BEHIND
    assert at.arrive(20) == []
    assert (at.at, at.goal) == (20, 22)
    assert at.arrive(22) == []
    assert (at.goal, at.last) == (None, 22)


def test_loss_while_registering() -> None:
    """The head may have been read before it: the position starts, and is behind."""
    at = position()
    at.raise_goal(12)
    assert at.start(10) == []
    assert (at.at, at.goal) == (10, 12)
    well = position()
    well.raise_goal(10)
    well.start(10)
    assert well.goal is None


def test_client_that_comes_back() -> None:
    """It is behind by what came since; with nothing since it is live at once; transient messages do not wait."""
    assert position().start_after(10, 10) == []
    at = position()
    assert at.take(11, 12, b"12") is Verdict.HELD
    assert at.take_transient(b"t") is Verdict.HELD
    assert at.start_after(10, 11) == [b"t"]
    assert (at.at, at.goal) == (10, 12)
    ahead = position()
    ahead.start_after(10, 9)
    assert ahead.take(9, 11, b"") is Verdict.DELIVER


def test_a_prev_below_last_is_no_gap() -> None:
    """The session may have started at a head that the message's writer did not know of."""
    assert position(10).take(7, 12, b"") is Verdict.DELIVER


def test_what_comes_while_registering_is_held_for_the_start() -> None:
    """Above the head it is due then, in order and once; up to the head the session has no claim to it."""
    at = position()
    assert not at.started
    for seq in (9, 10, 12, 11, 12):
        assert at.take(seq - 1, seq, b"%d" % seq) is Verdict.HELD
    assert at.take_transient(b"t") is Verdict.HELD
    assert at.start(10) == [b"t", b"11", b"12"]
    assert at.started
    assert at.last == 12


def test_what_passes_it_by_is_not_held_for_it() -> None:
    """Neither at a head nor behind a cursor; its place in the order is taken all the same."""
    for since, due in ((None, [b"11", b"t"]), (10, [b"t"])):
        at = Position(KeptOutlet("session:1"), "user:a", LIMIT)
        for frame, whom in ((b"t", "session:2"), (b"x", "session:1")):
            assert at.take_transient(frame, whom) is Verdict.HELD
        assert at.take(10, 11, b"11", "session:2") is Verdict.HELD
        assert at.take(11, 12, b"12", "session:1") is Verdict.HELD
        frames = at.start(10) if since is None else at.start_after(since, 10)
        assert sorted(frames) == due
        assert max(at.at, at.goal or 0) == 12


def test_what_is_kept_while_behind_says_whom_it_passes_by() -> None:
    """The position may be that of many, so that it is for its outlet to leave it out."""
    at = position(10)
    at.fall_behind(12)
    assert at.take(12, 13, b"13", "session:1") is Verdict.BEHIND
    assert at.take(13, 14, b"14") is Verdict.BEHIND
    assert at.arrive(12) == [(b"13", "session:1"), (b"14", "")]


def test_a_transient_message_leaves_the_order_alone() -> None:
    """It has no seq to remember."""
    at = position(10)
    assert at.take_transient(b"t") is Verdict.DELIVER
    assert at.last == 10


def test_too_much_held_is_told_and_forgotten() -> None:
    """The bound is of bytes; what is over it is not kept until the session has ended."""
    at = position()
    assert at.take(0, 1, b"x" * LIMIT) is Verdict.HELD
    assert at.take(1, 2, b"x") is Verdict.OVERFULL
    assert at.take_transient(b"x") is Verdict.OVERFULL
    assert at.start(0) == []


READ = 0
"""In the place of a seq that is heard: a page of the inbox is read."""

PAGE = 3
NEWEST = 30


def read_page(at: Position) -> list[int]:
    """Read a page of an inbox that has all seqs up to `NEWEST`, as catch-up does, and return what is sent."""
    until = at.goal
    assert until is not None
    found = [seq for seq in range(at.at + 1, NEWEST + 1) if seq <= until]
    if found[:PAGE]:
        at.read(found[:PAGE][-1])
    return found[:PAGE] + ([int(frame) for frame, _ in at.arrive(until)] if len(found) < PAGE else [])


@given(
    st.lists(st.integers(READ, NEWEST), max_size=60),
    st.integers(0, 60),
    st.integers(0, NEWEST),
    st.one_of(st.none(), st.integers(0, NEWEST)),
)
def test_all_in_order_and_once(events: list[int], starts_at: int, head: int, since: int | None) -> None:
    """Whatever is heard, lost, repeated or out of order, and whenever a page is read: every seq behind the start, once."""
    at, delivered = position(), list[int]()

    def start() -> None:
        due = at.start(head) if since is None else at.start_after(since, head)
        delivered.extend(map(int, due))

    for n, seq in enumerate(events):
        if n == starts_at:
            start()
        if seq != READ and at.take(seq - 1, seq, b"%d" % seq) is Verdict.DELIVER:
            delivered.append(seq)
        if seq == READ and at.goal is not None:
            delivered += read_page(at)
    if not at.started:
        start()
    while at.goal is not None:
        delivered += read_page(at)
    began = head if since is None else since
    assert delivered == list(range(began + 1, at.at + 1))
    assert at.at >= max([began, *(seq for seq in events[starts_at:])])
