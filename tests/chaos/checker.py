"""Says of a chaos run what was lost, doubled, reordered, passed over or early. Pure.

A history and MongoDB's inbox go in, a verdict comes out.

What each device is owed follows from its `Began` alone: every accepted message of the target above that seq, until another
`Began` of the target takes its place. The messages that it got are held against that list in the order in which it got them:

    owed  11 12 13 14      got 11, 13, 12, 12      gap: 12 passed over by 13        out of order: 12 after 13
                                                   duplicated: 12 again             lost: 14, if it is online at the end

What passes the device by is not on its list. A message that has a newer one of its key (`collapse`) may be left out, as by
a replay, and is neither lost nor a gap then.

A bare WebSocket may see a seq again on a later connection; on one connection, and through the client library within one life,
every seq is above the one before.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Final

from tests.chaos.history import (
    Accepted,
    Appended,
    Began,
    Came,
    Closed,
    DeviceKind,
    Event,
    FaultBegan,
    Got,
    History,
    Joined,
    Opened,
    Told,
    Tried,
    Went,
)
from tests.chaos.recovery import Recovery, recoveries

LOSSY_FAULTS: Final = frozenset({"failover"})
"""Kinds of fault that may lose what was appended and not yet accepted: the docs say so."""

DO_NOT_RECONNECT: Final = range(4500, 5000)
"""Close codes after which a client stays away."""

CLOCKS_S: Final = 0.005
"""How much a time that was told in whole ms of another clock may seem to differ."""

PROMPT_S: Final = 0.5
"""A delivery that takes longer than this, with the device there to take it, counts as late."""


class Kind(StrEnum):
    """What can be wrong."""

    LOST = "lost"
    """Accepted, owed, and never got by a device that is online at the end."""
    NEVER_ACCEPTED = "appended, never accepted"
    """Redis answered XADD, and MongoDB has no such message."""
    UNSTORED = "told, never accepted"
    """A device got what MongoDB does not have."""
    STORED_TWICE = "stored twice"
    """One id of a producer, for one target, under two seqs."""
    DUPLICATED = "duplicated"
    """Got again where nothing may come twice."""
    OUT_OF_ORDER = "out of order"
    """Got for the first time after something with a higher seq."""
    GAP = "gap"
    """Passed over: something with a higher seq came first, whether it came later or never."""
    PRODUCER_ORDER = "producer's order"
    """A producer's message has a lower seq than one that it appended before."""
    TOLD_LOST = "told of a loss"
    """A `lost` frame, in a run far shorter than the retention."""
    TURNED_AWAY = "turned away"
    """Closed with a code that says not to come back, to a device that had no other connection and a good token."""
    EXCLUDED = "got, though it passes by"
    """A device got what names it in `exclude`."""
    EARLY = "early"
    """Got before its time."""
    ABSENT = "not online at the end"
    """The device is not connected when all is over, so nothing can be said of what it lacks."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, of one message.

    Attributes:
        kind: what.
        who: the device or producer that saw it.
        target: of which target's order; "" where no one message is meant.
        id: the message's id; likewise.
        detail: the facts, for a reader.
    """

    kind: Kind
    who: str
    target: str
    id: str
    detail: str


@dataclass(frozen=True, slots=True)
class Figures:
    """How much there was of everything.

    Attributes:
        seconds: from the first event to the last.
        appended: messages a target that Redis took.
        accepted: messages a target that MongoDB has.
        deliveries: messages that devices got.
        repeats: of these, seqs that a device had already: allowed across connections of a bare one, or from an older cursor.
        devices: how many.
        connections: welcomes.
        cuts: connections that ended without the device's will.
        latency_p50_s: from XADD's answer to the device; of those that were there to take it.
        latency_p99_s: likewise.
        faults: how many.
    """

    seconds: float
    appended: int
    accepted: int
    deliveries: int
    repeats: int
    devices: int
    connections: int
    cuts: int
    latency_p50_s: float
    latency_p99_s: float
    faults: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said of a run.

    Attributes:
        findings: what is wrong.
        excused: what would be, had there been no fault that may lose what was only appended.
        recoveries: for each fault, in order, how long it was felt.
        figures: how much there was of everything.
    """

    findings: tuple[Finding, ...]
    excused: tuple[Finding, ...]
    recoveries: tuple[Recovery, ...]
    figures: Figures

    @property
    def green(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def count(self, kind: Kind) -> int:
        """Return how many findings there are of a kind."""
        return self.counts[kind]

    @property
    def counts(self) -> Counter[Kind]:
        """How many findings there are of each kind."""
        return Counter(finding.kind for finding in self.findings)


def check(history: History, accepted: Iterable[Accepted], *, prompt_s: float = PROMPT_S) -> Verdict:
    """Return the verdict on a run.

    Args:
        history: everything that was seen.
        accepted: the whole inbox at the end.
        prompt_s: from when on a delivery counts as late.
    """
    inbox = _Inbox(accepted)
    devices = _devices(history, inbox, _due_s(history))
    lossy = any(fault.kind in LOSSY_FAULTS for fault in history.of(FaultBegan))
    appends = [*_never_accepted(history, inbox), *_producer_order(history, inbox)]
    found = [*inbox.stored_twice(), *(finding for device in devices for finding in device.findings())]
    late = recoveries(history, prompt_s)
    return Verdict(
        findings=tuple(found if lossy else found + appends),
        excused=tuple(appends if lossy else ()),
        recoveries=late.recoveries,
        figures=_figures(history, inbox, devices, late.latencies_s),
    )


class _Inbox:
    """The accepted messages, by target."""

    def __init__(self, accepted: Iterable[Accepted]) -> None:
        self.messages = sorted(accepted, key=lambda message: (message.target, message.seq))
        self.seqs: dict[str, list[int]] = defaultdict(list)
        self._of: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._ids: dict[tuple[str, int], str] = {}
        self._passed_by: dict[tuple[str, int], str] = {}
        self._keys: dict[tuple[str, int], str] = {}
        self._newest: dict[tuple[str, str], int] = {}
        for message in self.messages:
            place = (message.target, message.seq)
            if message.exclude:
                self._passed_by[place] = message.exclude
            if message.collapse:
                self._keys[place] = message.collapse
                self._newest[message.target, message.collapse] = message.seq
            self.seqs[message.target].append(message.seq)
            self._of[message.target, message.id].append(message.seq)
            self._ids[message.target, message.seq] = message.id

    def seq(self, target: str, ident: str) -> int | None:
        """Return the seq of a message, the first if there are several; None where it was not accepted."""
        return self._of[target, ident][0] if (target, ident) in self._of else None

    def id(self, target: str, seq: int) -> str | None:
        """Return whose seq it is."""
        return self._ids.get((target, seq))

    def passes_by(self, target: str, seq: int) -> str:
        """Return whom a message passes by; "" for nobody."""
        return self._passed_by.get((target, seq), "")

    def seqs_for(self, target: str, whom: str) -> Sequence[int]:
        """Return the seqs of a target, ascending, but for those that pass this one by."""
        return [seq for seq in self.seqs.get(target, []) if self.passes_by(target, seq) != whom]

    def may_be_left_out(self, target: str, seq: int) -> bool:
        """Tell whether a message has a newer one of its key."""
        key = self._keys.get((target, seq))
        return key is not None and self._newest[target, key] > seq

    def stored_twice(self) -> Iterator[Finding]:
        """Yield what was stored under several seqs."""
        for (target, ident), seqs in self._of.items():
            if len(seqs) > 1:
                yield Finding(Kind.STORED_TWICE, "inbox", target, ident, f"under the seqs {seqs}")


@dataclass(slots=True)
class _Front:
    """How far a device has come in what it is owed of one target.

    Attributes:
        seqs: all accepted seqs of the target, ascending.
        began: everything above this is owed.
        next: index of the first that has neither been got nor passed over.
        passed: seqs that something higher has come before.
        last: the last seq got on this connection, or in this life of a client.
    """

    seqs: Sequence[int]
    began: int
    next: int
    passed: dict[int, str] = field(default_factory=dict)
    last: int = -1

    def has(self, seq: int) -> bool:
        """Tell whether the device got an accepted seq, or had it from the beginning."""
        return seq not in self.passed and (self.next == len(self.seqs) or seq < self.seqs[self.next])

    def advance(self, seq: int, detail: str) -> list[int]:
        """Count an accepted seq as got, and return those that are passed over by it."""
        self.passed.pop(seq, None)
        at = bisect_left(self.seqs, seq)
        skipped = list(self.seqs[self.next : at])
        self.passed.update(dict.fromkeys(skipped, detail))
        self.next = max(self.next, at + 1)
        return skipped

    def lacks(self) -> list[int]:
        """Return what is owed and was never got."""
        return [*sorted(self.passed), *self.seqs[self.next :]]


class _Device:
    """One device's history, gone through in order."""

    def __init__(self, name: str, inbox: _Inbox, due_s: Mapping[tuple[str, str], float]) -> None:
        self.name = name
        self._whom = f"device:{name.replace('/', ',')}"
        self._due_s = due_s
        self.kind: DeviceKind = "raw"
        self.repeats = 0
        self._own = f"user:{name.rpartition('/')[0]}"
        self._inbox = inbox
        self._fronts: dict[str, _Front] = {}
        self._wanted = self._connected = False
        self._findings: list[Finding] = []

    def see(self, event: Event) -> None:
        """Take the next event of this device."""
        match event:
            case Got():
                self._got(event)
            case Joined(kind=kind):
                self.kind = kind
                self._forget_last()
            case Opened(since=since):
                self._opened(since)
            case Began(target=target, seq=seq):
                seqs = self._inbox.seqs_for(target, self._whom)
                self._fronts[target] = _Front(seqs, seq, bisect_right(seqs, seq))
            case Closed(code=code):
                self._connected = False
                if code in DO_NOT_RECONNECT:
                    self._find(Kind.TURNED_AWAY, "", "", f"with {code} at {event.at_s:.2f} s")
            case Came() | Went():
                self._wanted = isinstance(event, Came)
            case Told():
                self._find(Kind.TOLD_LOST, event.target, "", f"({event.from_seq}, {event.until}] at {event.at_s:.2f} s")

    def findings(self) -> list[Finding]:
        """Return what is wrong, all events having been seen."""
        lacks = [
            (target, seq)
            for target, front in self._fronts.items()
            for seq in front.lacks()
            if not self._inbox.may_be_left_out(target, seq)
        ]
        if not (self._wanted and self._connected):
            absent = Finding(Kind.ABSENT, self.name, "", "", f"{len(lacks)} messages are owed to it")
            return [*self._findings, absent]
        return self._findings + [
            Finding(Kind.LOST, self.name, target, self._inbox.id(target, seq) or "", f"seq {seq}") for target, seq in lacks
        ]

    def _opened(self, since: int | None) -> None:
        self._connected = True
        if self.kind == "raw":
            self._forget_last()
        if since is not None and (front := self._fronts.get(self._own)) is not None:
            front.last = max(front.last, since)

    def _forget_last(self) -> None:
        for front in self._fronts.values():
            front.last = -1

    def _got(self, got: Got) -> None:
        front = self._fronts.setdefault(got.to, _Front([], 0, 0))
        when = f"seq {got.seq} at {got.at_s:.2f} s"
        if self._is_strange(got, when):
            return
        had = front.has(got.seq)
        self.repeats += had and got.seq > front.began
        if got.seq <= front.last:
            kind = Kind.DUPLICATED if had else Kind.OUT_OF_ORDER
            self._find(kind, got.to, got.id, f"{when}, after seq {front.last}")
        front.last = max(front.last, got.seq)
        for seq in front.advance(got.seq, when):
            if not self._inbox.may_be_left_out(got.to, seq):
                self._find(Kind.GAP, got.to, self._inbox.id(got.to, seq) or "", f"seq {seq}, passed over by {when}")

    def _is_strange(self, got: Got, when: str) -> bool:
        """Note a message that is early; or that MongoDB has under another seq or not at all, or that passes the device by."""
        due_s = self._due_s.get((got.to, got.id), 0.0)
        if got.at_s < due_s - CLOCKS_S:
            self._find(Kind.EARLY, got.to, got.id, f"{when}, due at {due_s:.3f} s")
        seq = self._inbox.seq(got.to, got.id)
        if seq is None:
            self._find(Kind.UNSTORED, got.to, got.id, when)
        elif self._inbox.id(got.to, got.seq) != got.id:
            self._find(Kind.STORED_TWICE, got.to, got.id, f"{when}, and seq {seq} in the inbox")
        elif self._inbox.passes_by(got.to, got.seq) == self._whom:
            self._find(Kind.EXCLUDED, got.to, got.id, when)
        else:
            return False
        return True

    def _find(self, kind: Kind, target: str, ident: str, detail: str) -> None:
        self._findings.append(Finding(kind, self.name, target, ident, detail))


def _due_s(history: History) -> dict[tuple[str, str], float]:
    """Return before when each message was not to be sent to a target: the earliest time that was ever said."""
    due_s: dict[tuple[str, str], float] = {}
    for tried in history.of(Tried):
        pair = (tried.target, tried.id)
        due_s[pair] = min(tried.due_s, due_s.get(pair, tried.due_s))
    return due_s


def _devices(history: History, inbox: _Inbox, due_s: Mapping[tuple[str, str], float]) -> list[_Device]:
    devices: dict[str, _Device] = {}
    for event in history:
        name = getattr(event, "device", None)
        if name is not None:
            devices.setdefault(name, _Device(name, inbox, due_s)).see(event)
    return list(devices.values())


def _never_accepted(history: History, inbox: _Inbox) -> Iterator[Finding]:
    for appended in history.of(Appended):
        if inbox.seq(appended.target, appended.id) is None:
            yield Finding(
                Kind.NEVER_ACCEPTED,
                appended.producer,
                appended.target,
                appended.id,
                f"entry {appended.entry} at {appended.at_s:.2f} s",
            )


def _producer_order(history: History, inbox: _Inbox) -> Iterator[Finding]:
    last: dict[tuple[str, str], int] = {}
    for appended in history.of(Appended):
        if appended.due_s:
            continue
        seq = inbox.seq(appended.target, appended.id)
        before = last.get((appended.producer, appended.target), -1)
        if seq is not None and seq < before:
            detail = f"seq {seq}, after {before}"
            yield Finding(Kind.PRODUCER_ORDER, appended.producer, appended.target, appended.id, detail)
        if seq is not None:
            last[appended.producer, appended.target] = max(seq, before)


def _figures(history: History, inbox: _Inbox, devices: Sequence[_Device], latencies_s: Sequence[float]) -> Figures:
    quantile = partial(_quantile, sorted(latencies_s))
    times = [event.at_s for event in history]
    return Figures(
        seconds=max(times, default=0.0) - min(times, default=0.0),
        appended=_count(history.of(Appended)),
        accepted=len(inbox.messages),
        deliveries=_count(history.of(Got)),
        repeats=sum(device.repeats for device in devices),
        devices=len(devices),
        connections=_count(history.of(Opened)),
        cuts=sum(closed.code is not None for closed in history.of(Closed)),
        latency_p50_s=quantile(0.5),
        latency_p99_s=quantile(0.99),
        faults=_count(history.of(FaultBegan)),
    )


def _count(events: Iterable[Event]) -> int:
    return sum(1 for _ in events)


def _quantile(ascending: Sequence[float], share: float) -> float:
    return ascending[min(len(ascending) - 1, int(len(ascending) * share))] if ascending else 0.0
