"""A way for messages to go: sent in one pattern or another, and what they cost while they went."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from tests.bench.dialect import Lane
from tests.bench.generator import Generator, Ran
from tests.bench.results import Figures, Measure, a_million, blame, blame_store, delivered, difference, ours

RATE_PER_S: Final = 1_000.0
"""Of the open loop that latency is told of, and the cost of a message that comes alone."""

OUTSTANDING: Final = (1, 4)
"""Messages of each user that are under way at a time."""

CALM_S: Final = 3.0
"""How long a crowd that has just sat down is left alone before it counts as quiet."""

FAN_OUT_OUTSTANDING: Final = (1, 8)
"""Messages to everybody that are under way at a time."""

EVERYBODY: Final = "all"
"""The audience that every system has."""


class System(Protocol):
    """What can be measured: ours, or what stands beside it in the table."""

    def stream(self, lane: str) -> Lane:
        """Return how messages are appended to a lane."""
        ...

    def generator(self, users: int) -> Generator:
        """Return a generator for that many users, not started yet."""
        ...

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds of each process."""
        ...


class WeighedSystem(System, Protocol):
    """One whose memory is of interest."""

    def edge_bytes(self) -> int:
        """Return the memory of what holds the connections."""
        ...

    def redis_bytes(self) -> int:
        """Return the memory of Redis."""
        ...


@dataclass(frozen=True, slots=True)
class Way:
    """A system, the generator that is connected to it, and a lane.

    Attributes:
        name: in the report's file.
        title: in its tables.
        transient: whether messages say that they are.
        wide_lanes: audience that every user belongs to, as the report names it → the lane of messages to it.
        store_wait_s: tells how long the lane has waited for its store; None where it has none.
    """

    name: str
    title: str
    system: System
    generator: Generator
    lane: str
    transient: int = 0
    wide_lanes: Mapping[str, str] = field(default_factory=dict)
    store_wait_s: Callable[[], float] | None = None

    def saturate(self, outstanding: int, seconds: float, measure: Measure, **more: int) -> Figures:
        """Measure how much goes through."""
        more = {"transient": self.transient, **more}
        return self._run(lambda lane: self.generator.saturate(lane, outstanding, seconds, **more), measure)

    def drip(self, rate: float, seconds: float, measure: Measure, **more: int) -> Figures:
        """Measure how long messages take that come at a rate."""
        more = {"transient": self.transient, **more}
        return self._run(lambda lane: self.generator.drip(lane, rate, seconds, **more), measure)

    def fan_out(self, audience: str, outstanding: int, seconds: float, measure: Measure) -> Figures:
        """Measure how many get what is sent to everybody; a delivery is one of one message to one user."""
        lane = self.wide_lanes[audience]
        return self._run(lambda lane: self.generator.saturate(lane, outstanding, seconds, to_all=1), measure, lane)

    def _run(self, send: Callable[[Lane], Ran], measure: Measure, lane: str | None = None) -> Figures:
        before, waited_s, began_s = self.system.cpu_s(), self._waited_s(), time.monotonic()
        ran = send(self.system.stream(lane or self.lane))
        blame(measure, ran)
        figures = delivered(ran, difference(before, self.system.cpu_s()))
        if self.store_wait_s:
            # Not of the time of sending: a slow store has what was sent last stored long after.
            figures["store_wait_share"] = (self._waited_s() - waited_s) / (time.monotonic() - began_s)
            blame_store(measure, figures["store_wait_share"])
        return figures

    def _waited_s(self) -> float:
        return self.store_wait_s() if self.store_wait_s else 0.0


def connect(system: System, generator: Generator, users: int) -> Figures:
    """Open connections, and say what it took; `connects_per_cpu_s` is how many a core would take, all processes counted."""
    before = system.cpu_s()
    connected = generator.connect(users)
    spent = difference(before, system.cpu_s())
    return {"connects_per_s": users / connected.seconds, "connects_per_cpu_s": users / ours(spent), **a_million(spent, users)}


def weigh(system: WeighedSystem, generator: Generator, users: int) -> Figures:
    """Do the same on a system that has never had a connection, and say what memory one takes.

    They are left alone for `CALM_S` before they are weighed: what a handshake needs is given back a little later.
    """
    edge, redis = system.edge_bytes(), system.redis_bytes()
    figures = connect(system, generator, users)
    figures["edge_bytes_at_first"] = edge
    time.sleep(CALM_S)
    figures["edge_bytes_a_connection"] = (system.edge_bytes() - edge) / users
    figures["redis_bytes_a_connection"] = (system.redis_bytes() - redis) / users
    return figures
