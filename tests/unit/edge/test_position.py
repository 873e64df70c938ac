"""edge.position: in order, once, whatever comes in which order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.position import Position, Verdict
from tests.unit.edge.outlets import KeptOutlet

LIMIT = 1_000


def position(head: int | None = None) -> Position:
    """Return a position, started where `head` is given."""
    made = Position(KeptOutlet(), LIMIT)
    if head is not None:
        made.start(head)
    return made


def test_the_worked_example_of_the_module() -> None:
    """Prev <= last < seq delivers; the same again is a duplicate; a prev not seen is a gap."""
    at = position(10)
    assert at.take(10, 11, b"") is Verdict.DELIVER
    assert at.take(10, 11, b"") is Verdict.DUPLICATE
    assert at.take(12, 13, b"") is Verdict.GAP
    assert at.last == 13
    assert at.take(13, 14, b"") is Verdict.DELIVER


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


@given(
    st.lists(st.integers(1, 30), max_size=60),
    st.integers(0, 60),
    st.integers(0, 30),
)
def test_never_out_of_order_never_twice_and_none_of_the_rest_lost(seqs: list[int], starts_at: int, head: int) -> None:
    """Whatever arrives when: seqs rise, all are above the head, and what is not delivered was overtaken."""
    at, delivered = position(), list[int]()
    for n, seq in enumerate(seqs):
        if n == starts_at:
            delivered += map(int, at.start(head))
        if at.take(seq - 1, seq, b"%d" % seq) in {Verdict.DELIVER, Verdict.GAP}:
            delivered.append(seq)
    if starts_at >= len(seqs):
        delivered += map(int, at.start(head))
    assert delivered == sorted(set(delivered))
    assert all(seq > head for seq in delivered)
    for n, seq in enumerate(seqs):
        if seq > head and seq not in delivered:
            assert n >= starts_at  # of what was held, nothing is lost
            assert max(delivered) > seq
