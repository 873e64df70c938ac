"""edge.client.progress under anything that can happen: each message once within a life, none lost across a crash."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from edge.client.frames import OWN, Message
from edge.client.progress import Progress

ALICE: Final = "user:alice"
NEWS: Final = "topic:news"
TARGETS: Final = (ALICE, NEWS)

Frame = tuple[str, str, int]  # message or caught_up, target, seq


@dataclass
class ModelEdge:
    """What an edge owes a client: everything behind where the session began, in order, duplicates allowed.

    Attributes:
        orders: target → every seq ever given.
        kept: the device's cursors.
        wire: frames of the open session that the client has not read.
        began: target → behind which seq the open session began.
        sent: target → the highest seq sent on it.
    """

    device: bool
    orders: dict[str, list[int]] = field(default_factory=lambda: {target: [] for target in TARGETS})
    kept: dict[str, int] = field(default_factory=dict)
    wire: deque[Frame] = field(default_factory=deque)
    began: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)

    def head(self, target: str) -> int:
        """The newest seq."""
        return self.orders[target][-1] if self.orders[target] else 0

    def connect(self, since: dict[str, int]) -> int:
        """Open a session, replay, and return the head that the welcome tells."""
        self.wire.clear()
        for target in TARGETS:
            name = OWN if target == ALICE else target
            start = since.get(name, self._begin(target))
            missed = [seq for seq in self.orders[target] if seq > start]
            self.wire += [("message", target, seq) for seq in missed]
            self.began[target] = start
            self.sent[target] = max([start, *missed])
            self.wire.append(("caught_up", target, self.sent[target]))
        return self.head(ALICE)

    def _begin(self, target: str) -> int:
        # Topics have no say in a welcome: without a cursor they begin at their beginning here.
        start = self.head(target) if target == ALICE else 0
        return self.kept.setdefault(target, start) if self.device else start

    def give(self, target: str, gap: int) -> None:
        """Have a new message in a target's order, sent at once."""
        seq = self.head(target) + gap
        self.orders[target].append(seq)
        self.wire.append(("message", target, seq))
        self.sent[target] = seq

    def acknowledged(self, target: str, seq: int) -> None:
        """Take an ack, which must not be beyond what was sent on this session."""
        assert seq <= self.sent[target], "bad_ack"
        self.kept[target] = max(seq, self.kept.get(target, 0))


class AnyInterleaving(RuleBasedStateMachine):
    """A client and its application, which live and die, before a model edge."""

    @initialize(device=strategies.booleans(), store=strategies.booleans(), every=strategies.integers(1, 4))
    def begin(self, device: bool, store: bool, every: int) -> None:
        """The first life begins; what was there before is not for it."""
        self.device, self.store, self.every = device, store or not device, every
        self.edge = ModelEdge(device)
        self.edge.give(ALICE, 5)
        self.kept: dict[str, int] = {}
        self.now_s = 0.0
        self.handled: set[tuple[str, int]] = {(ALICE, 5)}
        self._live()

    def _live(self) -> None:
        self.progress = Progress(self.kept, None, device=self.device, ack_every=self.every, ack_interval_s=1.0)
        self.life: list[tuple[str, int]] = []
        self.in_hand: tuple[str, int] | None = None
        self._connect()

    def _connect(self) -> None:
        self.progress.welcomed("alice", self.edge.connect(self.progress.since()), self.now_s)
        if self.now_s >= self.progress.due_s:  # as the iteration does before it reads on
            self.keep()

    @rule(to=strategies.sampled_from(TARGETS), gap=strategies.integers(1, 3))
    def give(self, to: str, gap: int) -> None:
        """A message is given to a target."""
        self.edge.give(to, gap)

    @rule()
    def ask(self) -> None:
        """The application asks for the next message, and gets it if one is there."""
        self._settle()
        while self.edge.wire and self.in_hand is None:
            kind, target, seq = self.edge.wire.popleft()
            if kind == "caught_up":
                self.progress.caught_up(target, seq, self.now_s)
            elif self.progress.take(Message(target, "m", 1, seq, None, None, "")):
                self._hand_out(target, seq)

    def _settle(self) -> None:
        self.progress.handled(self.now_s)
        if self.in_hand is not None:
            self.handled.add(self.in_hand)
        self.in_hand = None

    def _hand_out(self, target: str, seq: int) -> None:
        before = [had for to, had in self.life if to == target]
        assert not before or before[-1] < seq, "twice, or out of order, within one life"
        owed = {(target, given) for given in self.edge.orders[target] if given < seq}
        assert owed <= self.handled, "passed over"
        self.life.append((target, seq))
        self.in_hand = (target, seq)

    @rule(to=strategies.sampled_from(TARGETS), back=strategies.integers(0, 5))
    def repeat(self, to: str, back: int) -> None:
        """The edge sends something again that it has sent before."""
        if len(self.edge.orders[to]) > back and self.edge.orders[to][-1 - back] > self.edge.began[to]:
            self.edge.wire.append(("message", to, self.edge.orders[to][-1 - back]))

    @rule(seconds=strategies.floats(0, 2))
    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.now_s += seconds

    @rule()
    def reconnect(self) -> None:
        """The connection breaks while the application waits: what was on its way is gone."""
        self._settle()
        self._connect()

    @rule()
    @precondition(lambda self: self.now_s >= self.progress.due_s)
    def keep(self) -> None:
        """It is due to keep the cursors."""
        self.kept = {**self.kept, **self.progress.cursors} if self.store else {}
        self.progress.note_kept()

    @rule()
    @precondition(lambda self: self.now_s >= self.progress.due_s)
    def acknowledge(self) -> None:
        """It is due to acknowledge."""
        for target, seq in self.progress.unacked().items():
            self.edge.acknowledged(target, seq)
        self.progress.note_acked()

    @rule(leave=strategies.booleans())
    def crash(self, leave: bool) -> None:
        """The process ends, in good order or not, with a message in hand or not; the next life follows."""
        if leave:
            self.keep()
            self.acknowledge()
        self._live()

    def teardown(self) -> None:
        """In the end everything has been handled."""
        if not hasattr(self, "edge"):
            return
        self._connect()
        while self.edge.wire or self.in_hand:
            self.ask()
        given = {(target, seq) for target in TARGETS for seq in self.edge.orders[target]}
        assert self.handled == given


AnyInterleaving.TestCase.settings = settings(stateful_step_count=40)
TestAnyInterleaving = AnyInterleaving.TestCase
