"""edge.client.progress and topics under anything that can happen: each message once within a life, none lost across a crash."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from edge.client.frames import Message, ack_frame
from edge.client.progress import Progress
from edge.client.topics import Asked, Topics

ALICE: Final = "user:alice"
ALL: Final = "all"
NEWS: Final = "topic:news"
TARGETS: Final = (ALICE, ALL, NEWS)

Frame = tuple[str, str, int]  # message, caught_up, subscribed or unsubscribed; target; seq


@dataclass
class ModelEdge:
    """What an edge owes a client: everything behind where each target began, in order, duplicates allowed.

    Attributes:
        orders: target → every seq ever given.
        kept: the device's cursors.
        began: target → behind which seq the open session began; what is not there is not heard.
        sent: target → the highest seq sent on it.
        wire: frames of the open session that the client has not read.
        inbox: frames of the client that the edge has not read.
        excused: what was given before anybody could be owed it.
    """

    device: bool
    orders: dict[str, list[int]] = field(default_factory=lambda: {target: [] for target in TARGETS})
    kept: dict[str, int] = field(default_factory=dict)
    began: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    wire: deque[Frame] = field(default_factory=deque)
    inbox: deque[str] = field(default_factory=deque)
    excused: set[tuple[str, int]] = field(default_factory=set)

    def head(self, target: str) -> int:
        """The newest seq."""
        return self.orders[target][-1] if self.orders[target] else 0

    def excuse(self, target: str, head: int) -> None:
        """Nobody is owed what was given up to this."""
        self.excused |= {(target, seq) for seq in self.orders[target] if seq <= head}

    def connect(self, since: dict[str, int], topics: list[str]) -> tuple[int, int]:
        """Open a session, replay, and return the heads that the welcome tells."""
        self.wire.clear()
        self.inbox.clear()
        self.began.clear()
        heads = self.head(ALICE), self.head(ALL)
        self._join(ALICE, since.get("user"))
        self._join(ALL, since.get(ALL))
        for topic in topics:
            self._subscribe(topic, since.get(f"topic:{topic}"))
        return heads

    def hear(self) -> None:
        """Read a frame of the client's."""
        frame: dict[str, Any] = json.loads(self.inbox.popleft())
        match frame["type"]:
            case "ack":
                self._acknowledged(frame.get("to", ALICE), frame["seq"])
            case "subscribe":
                self._subscribe(frame["topic"], frame.get("since"))
            case "unsubscribe":
                self.began.pop(f"topic:{frame['topic']}", None)
                self.wire.append(("unsubscribed", f"topic:{frame['topic']}", 0))

    def give(self, target: str, gap: int) -> None:
        """Have a new message in a target's order, sent at once to who hears it."""
        seq = self.head(target) + gap
        self.orders[target].append(seq)
        if target in self.began:
            self.wire.append(("message", target, seq))
            self.sent[target] = seq

    def _subscribe(self, topic: str, since: int | None) -> None:
        target = f"topic:{topic}"
        self.wire.append(("subscribed", target, self.head(target)))
        if target not in self.began:
            self._join(target, since)

    def _join(self, target: str, since: int | None) -> None:
        if self.device and target not in self.kept:
            if since is None:
                self.excuse(target, self.head(target))
            self.kept[target] = self.head(target) if since is None else since
        start = self.kept.get(target, self.head(target)) if since is None else since
        self.kept[target] = max(start, self.kept.get(target, 0)) if self.device else start
        missed = [seq for seq in self.orders[target] if seq > start]
        self.wire += [("message", target, seq) for seq in missed]
        self.began[target], self.sent[target] = start, max([start, *missed])
        if since is not None or self.device:
            self.wire.append(("caught_up", target, self.sent[target]))
        if not self.device:
            del self.kept[target]

    def _acknowledged(self, target: str, seq: int) -> None:
        assert target in self.began, "bad_ack: nothing was sent of it"
        assert seq <= self.sent[target], "bad_ack: beyond what was sent"
        self.kept[target] = max(seq, self.kept.get(target, 0))


class AnyInterleaving(RuleBasedStateMachine):
    """A client and its application, which live and die, before a model edge."""

    @initialize(device=strategies.booleans(), store=strategies.booleans(), every=strategies.integers(1, 4))
    def begin(self, device: bool, store: bool, every: int) -> None:
        """The first life begins; what was there before is not for it."""
        self.device, self.store, self.every = device, store or not device, every
        self.edge = ModelEdge(device)
        for target in TARGETS:
            self.edge.give(target, 5)
        self.edge.excuse(ALICE, 5)
        self.edge.excuse(ALL, 5)
        self.kept: dict[str, int] = {}
        self.now_s = 0.0
        self.handled: set[tuple[str, int]] = set()
        self.topics = Topics()
        self._live()

    def _live(self) -> None:
        self.progress = Progress(self.kept, None, device=self.device, ack_every=self.every, ack_interval_s=1.0)
        self.topics = Topics(self.topics.wanted)
        self.life: list[tuple[str, int]] = []
        self.in_hand: tuple[str, int] | None = None
        self.open = False
        self._connect()

    def _connect(self, changes: int = 0) -> None:
        self.open = False
        self.asked = Asked(self.topics)
        heads = self.edge.connect(self.progress.since(self.asked.topics), self.asked.topics)
        for _ in range(changes):
            self.change_topics()
        self.progress.welcomed("alice", *heads, self.now_s)
        self.open = True
        self._due()

    def _due(self) -> None:
        """Do what the iteration does before it reads on."""
        self._keep_if_due()
        self._acknowledge_if_due()
        self._say()

    def _say(self) -> None:
        while self.open and (frames := self.asked.unsaid(self.progress.cursors)):
            self.edge.inbox += frames

    @rule(to=strategies.sampled_from(TARGETS), gap=strategies.integers(1, 3))
    def give(self, to: str, gap: int) -> None:
        """A message is given to a target."""
        self.edge.give(to, gap)

    @rule()
    def change_topics(self) -> None:
        """The application subscribes to the topic, or leaves it; both at any time."""
        if "news" not in self.topics.wanted:
            self.topics.want("news")
            self.progress.subscribe(NEWS, None, self.now_s)
        else:
            del self.topics.wanted["news"]
            unacked = self.progress.unsubscribe(NEWS, self.now_s)
            if unacked is not None:
                self.asked.acknowledge_last("news", unacked)
        self._say()

    @rule()
    @precondition(lambda self: "news" in self.topics.wanted)
    def subscribe_again(self) -> None:
        """The application asks for what it has."""
        self.progress.subscribe(NEWS, None, self.now_s)
        self.asked.ask_again("news")
        self._say()

    @rule()
    @precondition(lambda self: self.edge.inbox)
    def hear(self) -> None:
        """The edge gets to read what the client has said."""
        self.edge.hear()

    @rule()
    def ask(self) -> None:
        """The application asks for the next message, and gets it if one is there."""
        self._settle()
        self._due()
        while self.edge.wire and self.in_hand is None:
            self._take(*self.edge.wire.popleft())
            if self.in_hand is None:
                self._due()

    def _settle(self) -> None:
        self.progress.handled(self.now_s)
        if self.in_hand is not None:
            self.handled.add(self.in_hand)
        self.in_hand = None

    def _take(self, kind: str, target: str, seq: int) -> None:
        if kind == "unsubscribed":
            self.asked.unsubscribed("news")
        elif not self.asked.hears(target):
            return
        elif kind == "caught_up":
            self.progress.caught_up(target, seq, self.now_s)
        elif kind == "subscribed":
            if not self.device and target not in self.progress.cursors:
                self.edge.excuse(target, seq)
            self.progress.subscribed(target, seq, self.now_s)
        elif self.progress.take(Message(target, "m", 1, seq, None, None, "")):
            self._hand_out(target, seq)

    def _hand_out(self, target: str, seq: int) -> None:
        assert target != NEWS or "news" in self.topics.wanted, "of a topic that was given up"
        before = [had for to, had in self.life if to == target]
        assert not before or before[-1] < seq, "twice, or out of order, within one life"
        owed = {(target, given) for given in self.edge.orders[target] if given < seq}
        assert owed <= self.handled | self.edge.excused, "passed over"
        self.life.append((target, seq))
        self.in_hand = (target, seq)

    @rule(to=strategies.sampled_from(TARGETS), back=strategies.integers(0, 5))
    def repeat(self, to: str, back: int) -> None:
        """The edge sends something again that it has sent before."""
        order = self.edge.orders[to]
        if to in self.edge.began and len(order) > back and order[-1 - back] > self.edge.began[to]:
            self.edge.wire.append(("message", to, order[-1 - back]))

    @rule(seconds=strategies.floats(0, 2))
    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.now_s += seconds

    @rule(changes=strategies.integers(0, 2))
    def reconnect(self, changes: int) -> None:
        """The connection breaks while the application waits, and what was on its way is gone; topics may change meanwhile."""
        self._settle()
        self._connect(changes)

    def _keep_if_due(self) -> None:
        if self.now_s >= self.progress.due_s:
            self._keep()

    def _keep(self) -> None:
        while self.progress.unkept:
            kept = self.progress.to_keep()
            self.kept = kept if self.store else {}
            self.progress.note_kept(kept)

    def _acknowledge_if_due(self) -> None:
        if self.now_s >= self.progress.due_s:
            self._acknowledge()

    def _acknowledge(self) -> None:
        self.edge.inbox += [ack_frame(target, seq) for target, seq in self.progress.unacked().items()]
        self.progress.note_acked()

    @rule(leave=strategies.booleans())
    def crash(self, leave: bool) -> None:
        """The process ends, in good order or not, with a message in hand or not; the next life follows."""
        if leave:
            self._keep()
            self._acknowledge()
            while self.edge.inbox:
                self.edge.hear()
        self._live()

    def teardown(self) -> None:
        """In the end everything has been handled."""
        if not hasattr(self, "edge"):
            return
        if "news" not in self.topics.wanted:
            self.change_topics()
        self._connect()
        while self.edge.wire or self.edge.inbox or self.in_hand:
            self.ask()
            while self.edge.inbox:
                self.edge.hear()
        given = {(target, seq) for target in TARGETS for seq in self.edge.orders[target]}
        assert self.handled | self.edge.excused >= given


AnyInterleaving.TestCase.settings = settings(stateful_step_count=40)
TestAnyInterleaving = AnyInterleaving.TestCase
