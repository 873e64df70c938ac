"""What a history looks like second by second: the curves of the picture. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from tests.chaos.history import Appended, Closed, Event, Got, History, Opened
from tests.chaos.recovery import Span


def length_s(history: History) -> float:
    """Return when the last event was."""
    return max((event.at_s for event in history), default=0.0)


def rate(events: Iterable[Event], seconds: float, step_s: float) -> list[float]:
    """Return how many events there were a second, for each step."""
    counts = [0] * (int(seconds / step_s) + 1)
    for event in events:
        counts[int(event.at_s / step_s)] += 1
    return [count / step_s for count in counts]


def deliveries(history: History, seconds: float, step_s: float) -> list[float]:
    """Return messages that reached devices, a second."""
    return rate(history.of(Got), seconds, step_s)


def appends(history: History, seconds: float, step_s: float) -> list[float]:
    """Return messages that Redis took, a second; each target counts."""
    return rate(history.of(Appended), seconds, step_s)


def connected(history: History, seconds: float, step_s: float) -> list[float]:
    """Return how many devices were connected at the end of each step."""
    return _levels(_connections(history), seconds, step_s)


def behind(stretches: Mapping[str, Sequence[Span]], seconds: float, step_s: float) -> list[float]:
    """Return how many devices were behind at some moment of each step."""
    levels = [0.0] * (int(seconds / step_s) + 1)
    for spans in stretches.values():
        steps = {step for since, until in spans for step in range(int(since / step_s), int(until / step_s) + 1)}
        for step in steps:
            levels[step] += 1
    return levels


def _connections(history: History) -> Iterator[tuple[float, int]]:
    """Yield when a device became connected (+1), and when it was no longer (-1)."""
    online: set[str] = set()
    for event in history:
        match event:
            case Opened() if event.device not in online:
                online.add(event.device)
                yield event.at_s, 1
            case Closed() if event.device in online:
                online.remove(event.device)
                yield event.at_s, -1


def _levels(changes: Iterable[tuple[float, int]], seconds: float, step_s: float) -> list[float]:
    steps = [0] * (int(seconds / step_s) + 1)
    for at_s, change in changes:
        steps[int(at_s / step_s)] += change
    return [float(level) for level in accumulate(steps)]
