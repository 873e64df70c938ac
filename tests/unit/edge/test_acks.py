"""edge.acks: what has moved and is not written yet."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.acks import Acks
from router.cursors import CursorKey


def key(name: str) -> CursorKey:
    """Return the cursor of one user's phone."""
    return CursorKey(name, "phone", f"user:{name}")


A, B, C = key("a"), key("b"), key("c")


def test_a_cursor_that_moves_again_is_written_once() -> None:
    """At the highest; nothing is due before its time."""
    acks = Acks(9)
    for seq in (5, 7, 6):
        acks.note(A, seq)
    assert acks.due == 0
    assert acks.take(9) == {}
    acks.mature()
    assert acks.take(9) == {A: 7}


def test_who_has_gone_is_written_first() -> None:
    """The others wait for their time."""
    acks = Acks(9)
    acks.note(A, 1)
    acks.note(B, 2)
    acks.hasten(B)
    acks.hasten(C)
    assert acks.take(9) == {B: 2}


def test_what_moves_while_it_is_written_is_written_again() -> None:
    """Whether the write went well or not; what was taken counts until it is done."""
    acks = Acks(9)
    acks.note(A, 1)
    acks.mature()
    acks.take(9)
    assert acks.find(A) == 1
    acks.note(A, 2)
    assert acks.find(A) == 2
    acks.give_back()
    assert acks.take(9) == {A: 2}
    acks.done()
    assert (len(acks), acks.find(A)) == (0, None)


def test_nothing_is_taken_beyond_what_is_asked() -> None:
    """Oldest first."""
    acks = Acks(9)
    for one in (A, B, C):
        acks.note(one, 0)
    acks.mature()
    assert list(acks.take(2)) == [A, B]
    acks.give_back()
    assert list(acks.take(3)) == [A, B, C]


def test_too_many_waiting() -> None:
    """The one that has waited longest is given up, and counted."""
    acks = Acks(2)
    acks.note(A, 1)
    acks.mature()
    for one in (B, C, B):
        acks.note(one, 2)
    acks.mature()
    assert acks.take(9) == {B: 2, C: 2}
    assert acks.dropped == 1


class AcksMachine(RuleBasedStateMachine):
    """Whatever happens in between, each cursor ends up written at the highest seq noted."""

    @initialize()
    def begin(self) -> None:
        """Nothing is noted or written."""
        self.acks = Acks(1_000)
        self.noted: dict[CursorKey, int] = {}
        self.written: dict[CursorKey, int] = {}
        self.taken: dict[CursorKey, int] | None = None

    @rule(one=st.sampled_from([A, B, C]), seq=st.integers(0, 20))
    def note(self, one: CursorKey, seq: int) -> None:
        """An ack."""
        self.acks.note(one, seq)
        self.noted[one] = max(seq, self.noted.get(one, 0))

    @rule(one=st.sampled_from([A, B, C]))
    def hasten(self, one: CursorKey) -> None:
        """A session's end."""
        self.acks.hasten(one)

    @rule()
    def mature(self) -> None:
        """Time."""
        self.acks.mature()

    @precondition(lambda self: self.taken is None)
    @rule(most=st.integers(1, 3))
    def take(self, most: int) -> None:
        """A write begins."""
        self.taken = dict(self.acks.take(most))

    @precondition(lambda self: self.taken is not None)
    @rule(stored=st.booleans(), told=st.booleans())
    def end(self, stored: bool, told: bool) -> None:
        """A write ends: MongoDB may have it without this edge hearing so, but not the other way round."""
        for one, seq in (self.taken or {}).items():
            if stored or told:
                self.written[one] = max(seq, self.written.get(one, 0))
        if told:
            self.acks.done()
        else:
            self.acks.give_back()
        self.taken = None

    @invariant()
    def nothing_is_forgotten(self) -> None:
        """What is noted is written, or on its way."""
        for one, seq in self.noted.items():
            assert max(self.written.get(one, -1), -1 if (found := self.acks.find(one)) is None else found) >= seq
        assert all(self.written[one] <= self.noted[one] for one in self.written)


TestAcksMachine = AcksMachine.TestCase


@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 9))), st.integers(1, 3))
def test_the_bound_holds(notes: list[tuple[CursorKey, int]], most: int) -> None:
    """Whatever comes; what was given up and what is there are all that came."""
    acks = Acks(most)
    for one, seq in notes:
        acks.note(one, seq)
        assert len(acks) <= most
