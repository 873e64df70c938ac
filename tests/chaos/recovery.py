"""How long each fault of a chaos run was felt: until the last device that it delayed had caught up.

A delivery is late when it takes longer than `prompt_s` from XADD's answer, from its `at`, or from when the device came,
whichever is later. A fault affects the devices that wait for such a delivery at any moment between its beginning and its end,
and each of them has caught up when it has all that it waited for then. Where another fault follows before that, both are felt
until then.

A device that went, or stopped reading, of its own will while it was behind says nothing about the fault, and is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from tests.chaos.history import Appended, Came, FaultBegan, FaultEnded, Got, History, Went

_FOREVER: Final = float("inf")

Span = tuple[float, float]
"""From and until, in seconds of the history's clock."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """How long one fault was felt.

    Attributes:
        fault: its name.
        kind: what was done.
        process: to whom.
        began_s: when, by the history's clock.
        ended_s: when it was undone; the end of the history where it never was.
        after_s: for each device affected, from the fault's beginning until it had caught up; ascending.
    """

    fault: str
    kind: str
    process: str
    began_s: float
    ended_s: float
    after_s: tuple[float, ...]

    @property
    def p50_s(self) -> float | None:
        """From the fault's beginning until half of those affected had caught up; None where nobody was."""
        return median(self.after_s) if self.after_s else None

    @property
    def max_s(self) -> float | None:
        """From the fault's beginning until the last of those affected had caught up; None where nobody was."""
        return self.after_s[-1] if self.after_s else None

    def since_end(self, after_s: float) -> float:
        """Return a time since the fault's beginning as one since its end; 0 where all was well before that."""
        return max(0.0, after_s - (self.ended_s - self.began_s))


@dataclass(frozen=True, slots=True)
class Late:
    """What was late in a run.

    Attributes:
        recoveries: a fault each, in order.
        latencies_s: of each first delivery to a device that was there to take it.
        behind: device → its stretches of being behind, ascending.
    """

    recoveries: tuple[Recovery, ...]
    latencies_s: list[float]
    behind: dict[str, list[Span]]


@dataclass(slots=True)
class _Presence:
    """A device while its history is gone through."""

    came_s: float = _FOREVER
    had: set[tuple[str, int]] = field(default_factory=set)


def recoveries(history: History, prompt_s: float) -> Late:
    """Return how long each fault was felt, and what was late at all."""
    waits = _waits(history)
    late = {device: [span for span in spans if span[1] - span[0] > prompt_s] for device, spans in waits.items()}
    end_s = max((event.at_s for event in history), default=0.0)
    ends = {fault.fault: fault.at_s for fault in history.of(FaultEnded)}
    felt = tuple(_recovery(fault, ends.get(fault.fault, end_s), late) for fault in history.of(FaultBegan))
    latencies_s = [until - since for spans in waits.values() for since, until in spans]
    return Late(felt, latencies_s, {device: _joined(spans) for device, spans in late.items()})


def _waits(history: History) -> dict[str, list[Span]]:
    """Return for each device what it waited for: from when it could have had a message until it did."""
    appended_s = _appended_s(history)
    waits: dict[str, list[Span]] = defaultdict(list)
    present: dict[str, _Presence] = defaultdict(_Presence)
    for event in history:
        match event:
            case Got(at_s=at_s, device=device, seq=seq, id=ident, to=to):
                presence = present[device]
                since_s = max(appended_s.get((to, ident), _FOREVER), presence.came_s)
                if (to, seq) not in presence.had and since_s < at_s:
                    waits[device].append((since_s, at_s))
                presence.had.add((to, seq))
            case Came() | Went():
                present[event.device].came_s = event.at_s if isinstance(event, Came) else _FOREVER
    return waits


def _appended_s(history: History) -> dict[tuple[str, str], float]:
    return {(appended.target, appended.id): max(appended.at_s, appended.due_s) for appended in history.of(Appended)}


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Return the spans with those that touch made one; ascending."""
    joined: list[Span] = []
    for since, until in sorted(spans):
        if joined and since <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], until)
        else:
            joined.append((since, until))
    return joined


def _recovery(fault: FaultBegan, ended_s: float, late: dict[str, list[Span]]) -> Recovery:
    caught_up = (_caught_up(spans, fault.at_s, ended_s) for spans in late.values())
    after_s = tuple(sorted(at_s - fault.at_s for at_s in caught_up if at_s is not None))
    return Recovery(fault.fault, fault.kind, fault.process, fault.at_s, ended_s, after_s)


def _caught_up(spans: Iterable[Span], began_s: float, ended_s: float) -> float | None:
    """Return when a device had all that it waited for within [began_s, ended_s]; None where nothing of that was late."""
    return max((until for since, until in spans if since <= ended_s and until >= began_s), default=None)
