"""edge.replaced: of all sessions of a device that are alive, on however many edges, one stays, and none goes for a dead one."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.actions import Challenge, FindCursor, Prove
from edge.ledger import Ledger, Write
from edge.replaced import Replaced, come, hear, tell
from edge.session import Session, State
from edge.sessions import Sessions
from edge.upgrade import SUBPROTOCOL, Upgrade
from router.settings import Settings
from tests.unit.edge.outlets import KeptOutlet, feed

EDGES: Final = 2
USER: Final = "alice"
DEVICE: Final = "phone"

_STEPS_TO_REST: Final = 9
"""An answer that is on its way, and two calls of three steps each, with room to spare."""


def test_what_a_line_says() -> None:
    """Whatever characters an id has."""
    text = come("älice", "phöne", "s1")
    assert json.loads(text + ',"at_us":5}') == {"user": "älice", "device": "phöne", "session": "s1", "at_us": 5}


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"user":"a","device":"d","session":"s","at_us":"x"}', b"\xff"])
def test_a_line_that_says_something_else(payload: bytes) -> None:
    """It is refused, and nobody is replaced."""
    with pytest.raises(ValueError, match=r"."):
        hear(lambda *_: pytest.fail("nobody is looked for"), payload)


class Member:
    """A session of the device, in the place of its connection.

    Args:
        edge: where it is.
        living: its client is there, and answers; otherwise it sent its connect frame and went elsewhere.
    """

    def __init__(self, edge: Edge, *, living: bool) -> None:
        self.edge = edge
        self.living = living
        self.challenged = False
        self.session = Session(Settings(), f"edge-{edge.number}", KeptOutlet())
        self.session.upgraded(Upgrade("t", {"device": DEVICE}, (SUBPROTOCOL,)))
        self.session.verified(USER, 60.0)

    @property
    def is_open(self) -> bool:
        """Whether nobody has closed it."""
        return self.session.state is not State.CLOSING

    def registered(self, head: int | None, at_us: int) -> None:
        """The answer to the write."""
        assert head is not None
        self.session.routed(at_us)
        self.session.registered(head)
        (find,) = self.session.heard(feed())
        assert isinstance(find, FindCursor)
        self.challenged = Challenge() in self.session.resumed(find.begin_at)

    def answer(self, took_s: float) -> None:
        """The pong comes."""
        actions = self.session.answered(took_s)
        self.challenged = Challenge() in actions
        if Prove(DEVICE) in actions:
            self.edge.ledger.ask(USER, self.proved, come(USER, DEVICE, self.session.id))

    def proved(self, head: int | None, at_us: int) -> None:
        """The answer to the write that told the others."""
        del head
        self.session.proved(at_us)
        self.edge.leave_if_closed(self)
        tell(self.edge.sessions.find, Replaced(USER, DEVICE, self.session.id, at_us))

    def replaced(self, at_us: int, session: str) -> None:
        """What an edge tells, this one or another."""
        was_open = self.is_open
        self.session.replaced(at_us, session)
        if was_open and not self.is_open:
            self.edge.replacers.append(session)
        self.edge.leave_if_closed(self)


@dataclass
class Edge:
    """One edge, as far as the device's sessions and the user's route go."""

    number: int
    sessions: Sessions[Member] = field(default_factory=lambda: Sessions[Member](99))
    ledger: Ledger = field(default_factory=lambda: Ledger(20.0))
    lines: deque[bytes] = field(default_factory=deque)
    in_flight: list[Write] = field(default_factory=list)
    held: bool = False
    come: list[str] = field(default_factory=list)
    answered_us: int = 0
    replacers: list[str] = field(default_factory=list)

    def connect(self, *, living: bool) -> Member:
        """As `edge.admission` takes a session in."""
        member = Member(self, living=living)
        assert member.session.position is not None
        self.sessions.add(member, USER, DEVICE, member.session.position)
        self.ledger.ask(USER, member.registered)
        return member

    def leave_if_closed(self, member: Member) -> None:
        """As `edge.admission` lets a session go."""
        if member.is_open:
            return
        self.ledger.withdraw(USER, member.registered)
        self.ledger.withdraw(USER, member.proved)
        if self.sessions.remove(member, USER):
            self.ledger.ask(USER)


class Devices(RuleBasedStateMachine):
    """Connects, of the living and the dead, pongs, writes, answers that get lost, and lines, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.edges = [Edge(number) for number in range(EDGES)]
        self.routed: set[int] = set()
        self.now_us = 1_000
        self.members: list[Member] = []
        self.has_left = False

    @rule(number=st.integers(0, EDGES - 1), living=st.booleans())
    def connect(self, number: int, living: bool) -> None:
        """The device comes to an edge, or an edge takes in what the device sent before it went elsewhere."""
        self.members.append(self.edges[number].connect(living=living))

    @rule(number=st.integers(0, EDGES - 1), living=st.booleans(), took_s=st.sampled_from([0.0, 99.0]))
    def begin(self, number: int, living: bool, took_s: float) -> None:
        """One comes as far as its pong, and nothing is in the way; a living client's is in time, or not."""
        self.connect(number, living)
        self.rest(number)
        if self.members[-1].challenged and (living or took_s):
            self.members[-1].answer(took_s)

    @rule(number=st.integers(0, EDGES - 1))
    def rest(self, number: int) -> None:
        """An edge has all written that it was asked for."""
        for _ in range(_STEPS_TO_REST):
            self.go_on(number)

    @rule()
    def overtake(self) -> None:
        """Redis carries out what it is asked for, and the lines are there before the answers."""
        for edge in self.edges:
            for _ in ("take", "execute"):
                if not edge.answered_us:
                    self.go_on(edge.number)
        for edge in self.edges:
            while edge.lines:
                self.hear(edge.number)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), took_s=st.sampled_from([0.0, 99.0]))
    def pong(self, data: st.DataObject, took_s: float) -> None:
        """A living client's pong comes, or any client's that waited too long to say anything of now."""
        waiting = self.waiting if took_s else [member for member in self.waiting if member.living]
        if waiting:
            data.draw(st.sampled_from(waiting)).answer(took_s)

    @property
    def waiting(self) -> list[Member]:
        """The sessions whose pong is waited for."""
        return [member for member in self.members if member.is_open and member.challenged]

    @precondition(lambda self: any(member.is_open for member in self.members))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A client closes."""
        member = data.draw(st.sampled_from([member for member in self.members if member.is_open]))
        member.session.left()
        member.edge.leave_if_closed(member)
        self.has_left = True

    @rule(number=st.integers(0, EDGES - 1))
    def go_on(self, number: int) -> None:
        """An edge's next step: the call, with what stands in its table at that moment; Redis' work; the answer."""
        edge = self.edges[number]
        if edge.answered_us:
            self.answer(number, lost=False)
        elif edge.in_flight:
            self.execute(edge)
        else:
            edge.in_flight = edge.ledger.take(0.0, 9)
            edge.held = USER in edge.sessions.users
            edge.come = [text for write in edge.in_flight for text in write.waiters.values() if text]

    def execute(self, edge: Edge) -> None:
        """Do as `route_set.lua` does."""
        self.now_us += 1
        edge.answered_us = self.now_us
        (self.routed.add if edge.held else self.routed.discard)(edge.number)
        for text in edge.come:
            for other in self.routed - {edge.number}:
                self.edges[other].lines.append(f'{text},"at_us":{self.now_us}}}'.encode())

    @rule(number=st.integers(0, EDGES - 1))
    def lose(self, number: int) -> None:
        """A call or its answer is lost."""
        self.answer(number, lost=True)

    def answer(self, number: int, *, lost: bool) -> None:
        """Take what was on its way as answered, or not."""
        edge = self.edges[number]
        writes, at_us = edge.in_flight, edge.answered_us
        edge.in_flight, edge.answered_us = [], 0
        if lost:
            edge.ledger.give_back(writes)
            return
        for write in writes:
            edge.ledger.done(USER, 0.0, held=edge.held)
            for waiter in list(write.waiters):
                waiter(1_732_262_400_123_456, at_us)

    @rule(number=st.integers(0, EDGES - 1))
    def hear(self, number: int) -> None:
        """A line arrives."""
        edge = self.edges[number]
        if edge.lines:
            hear(edge.sessions.find, edge.lines.popleft())

    @invariant()
    def nobody_goes_for_a_dead_session(self) -> None:
        """Whatever is replaced is replaced by one whose client was there to answer."""
        living = {member.session.id for member in self.members if member.living}
        assert all(living.issuperset(edge.replacers) for edge in self.edges)

    def teardown(self) -> None:
        """As at any time before the end."""
        self.settle()

    @rule()
    def settle(self) -> None:
        """Once all is answered, written and heard, one living session is there; the dead ones wait for their heartbeat."""
        for number in range(EDGES):
            self.rest(number)
        for member in self.waiting:
            if member.living:
                member.answer(0.0)
        for number in range(EDGES):
            self.rest(number)
        for edge in self.edges:
            while edge.lines:
                self.hear(edge.number)
        for number in range(EDGES):
            self.rest(number)
        left = [member for member in self.members if member.is_open]
        living = [member for member in left if member.living]
        assert len(living) <= 1
        assert len(living) == 1 or self.has_left or not any(member.living for member in self.members)
        assert self.routed == {member.edge.number for member in left}


TestDevices = Devices.TestCase
