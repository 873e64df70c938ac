"""What is measured, in which order.

Runs of all scenarios of a scene take turns, so that what else the machine does meanwhile falls on all of them alike.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tests.bench.bare import BareWriter
from tests.bench.generator import Generator, Ran
from tests.bench.replay import store_messages
from tests.bench.results import Figures, Kind, Measure, Results, a_million, blame, delivered, difference, ours
from tests.bench.stand import Stand
from tests.servers import wait_until

RATE_PER_S: Final = 1_000.0
"""Of the open loop that latency is told of, and the cost of a message that comes alone."""

CALM_S: Final = 3.0
"""How long a crowd that has just sat down is left alone before it counts as quiet."""

OUTSTANDING: Final = (1, 4)
"""Messages of each user that are under way at a time."""

WARM_UP_S: Final = 1.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is asked for.

    Attributes:
        quick: the short way: no crowd, no real store, no replay.
        runs: of each scenario.
        seconds: of messages, in each run.
        users: that messages go to.
        crowd: quiet connections.
        quiet_s: how long they are watched.
        missed: messages that are replayed.
        redis_url: a Redis to use instead of the embedded Valkey.
    """

    quick: bool = False
    runs: int = 3
    seconds: float = 5.0
    users: int = 1_000
    crowd: int = 10_000
    quiet_s: float = 30.0
    missed: int = 50_000
    redis_url: str | None = None


QUICK: Final = Wishes(quick=True, seconds=1.0)


class System(Protocol):
    """What can be measured: ours, or what stands beside it in the table."""

    def stream(self, lane: str) -> str:
        """Return where messages of a lane are appended."""
        ...

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds of each process."""
        ...


@dataclass(frozen=True, slots=True)
class Way:
    """A way for messages to go: a system, the generator that is connected to it, a lane, and whether they are transient."""

    name: str
    title: str
    system: System
    generator: Generator
    lane: str
    transient: int = 0

    def run(self, send: Callable[[str], Ran], measure: Measure) -> None:
        """Have messages sent, and take the figures."""
        before = self.system.cpu_s()
        ran = send(self.system.stream(self.lane))
        blame(measure, ran)
        measure.add(delivered(ran, difference(before, self.system.cpu_s())))

    def saturate(self, outstanding: int, seconds: float, measure: Measure) -> None:
        """Measure how much goes through."""
        self.run(lambda stream: self.generator.saturate(stream, outstanding, seconds, transient=self.transient), measure)

    def drip(self, rate: float, seconds: float, measure: Measure) -> None:
        """Measure how long messages take that come at a rate."""
        self.run(lambda stream: self.generator.drip(stream, rate, seconds, transient=self.transient), measure)


class Bench:
    """A bench at work.

    Args:
        wishes: what to measure.
        results: takes what is measured.
        say: is told what is being done.
    """

    def __init__(self, wishes: Wishes, results: Results, say: Say) -> None:
        self._wishes = wishes
        self._results = results
        self._say = say

    def run(self) -> None:
        """Measure everything."""
        self._lanes()
        if not self._wishes.quick:
            self._real_store()
            for _ in range(self._wishes.runs):
                self._crowd()

    def _measure(self, name: str, title: str, kind: Kind = "connections") -> Measure:
        self._say(title)
        return self._results.measures.setdefault(name, Measure(title, kind))

    @contextmanager
    def _stand(self, *, null_store: bool) -> Iterator[Stand]:
        self._say("starting a system")
        with (
            tempfile.TemporaryDirectory() as folder,
            Stand(Path(folder), null_store=null_store, redis_url=self._wishes.redis_url) as stand,
        ):
            yield stand

    def _rounds(self) -> Iterator[int]:
        return iter(range(self._wishes.runs))

    # -- our own cost ----------------------------------------------------------------------------------------------------

    def _lanes(self) -> None:
        """Everything that needs no store: the bare writer, the lanes, the durable path with the null store."""
        with ExitStack() as stack:
            stand = stack.enter_context(self._stand(null_store=True))
            for _ in self._rounds():
                self._connects(stand)
            ours = stack.enter_context(self._seated(stand))
            bare = stack.enter_context(BareWriter(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
            theirs = stack.enter_context(self._seated(bare))
            ways = (
                Way("bare", "bare writer", bare, theirs, "bare"),
                Way("fast", "fast lane", stand, ours, "fast"),
                Way("transient", "transient through in", stand, ours, "in", transient=1),
                Way("durable_null", "durable, null store", stand, ours, "in"),
            )
            self._warm_up(ways)
            for _ in self._rounds():
                for way in ways:
                    self._saturate(way)
                for way in ways:
                    self._drip(way, RATE_PER_S, f"at_{RATE_PER_S:.0f}", f"at {RATE_PER_S:,.0f}/s")
                if not self._wishes.quick:
                    half = self._results.measures["fast_x1"].median("deliveries_per_s") / 2
                    self._drip(ways[1], half, "at_half", "at half of its saturation")

    def _connects(self, stand: Stand) -> None:
        """Open connections as fast as they are taken, and close them again."""
        users = self._wishes.users
        measure = self._measure("connects", f"connecting {users:,} users")
        with stand.generator(users) as generator:
            measure.add(_connect(stand, generator, users))
        edge = stand.stack["edge-1"]
        wait_until(lambda: edge.metric("pushway_sessions") == 0, "the edge has seen them go")

    @contextmanager
    def _seated(self, system: Stand | BareWriter) -> Iterator[Generator]:
        with system.generator(self._wishes.users) as generator:
            generator.connect(self._wishes.users)
            yield generator

    def _warm_up(self, ways: tuple[Way, ...]) -> None:
        for way in ways:
            self._say(f"warming up: {way.title}")
            way.generator.saturate(way.system.stream(way.lane), 1, WARM_UP_S, transient=way.transient)

    def _saturate(self, way: Way) -> None:
        for outstanding in OUTSTANDING:
            measure = self._measure(f"{way.name}_x{outstanding}", f"{way.title} x{outstanding}", "saturation")
            way.saturate(outstanding, self._wishes.seconds, measure)

    def _drip(self, way: Way, rate: float, name: str, title: str) -> None:
        way.drip(rate, self._wishes.seconds, self._measure(f"{way.name}_{name}", f"{way.title}, {title}", "rate"))

    # -- with the store --------------------------------------------------------------------------------------------------

    def _real_store(self) -> None:
        with self._stand(null_store=False) as stand:
            self._replay(stand)
            with self._seated(stand) as generator:
                way = Way("durable", "durable, embedded store", stand, generator, "in")
                self._warm_up((way,))
                for _ in self._rounds():
                    self._saturate(way)
                    self._drip(way, RATE_PER_S, f"at_{RATE_PER_S:.0f}", f"at {RATE_PER_S:,.0f}/s")

    def _replay(self, stand: Stand) -> None:
        """Have one user, who has had nothing else, come back to many messages, again and again."""
        missed = self._wishes.missed
        measure = self._measure("replay", f"replay of {missed:,} to one user")
        store_messages(stand.settings, "u0", missed)
        for _ in self._rounds():
            before = stand.cpu_s()
            with stand.generator(1) as generator:
                connected = generator.connect(1, query="since=0", owed=missed)
                came = generator.replayed()
            spent = difference(before, stand.cpu_s())
            if came.faults:
                measure.faults.append(came.faults)
            measure.add({"replayed_per_s": came.received / (connected.seconds + came.seconds), **a_million(spent, missed)})

    # -- a quiet crowd ---------------------------------------------------------------------------------------------------

    def _crowd(self) -> None:
        """Seat a crowd on an edge that has never had one, weigh it, and see what its silence costs."""
        size, quiet_s = self._wishes.crowd, self._wishes.quiet_s
        measure = self._measure("crowd", f"{size:,} quiet connections")
        with self._stand(null_store=True) as stand, stand.generator(size) as generator:
            edge, redis = stand.edge_bytes(), stand.redis_bytes()
            figures = _connect(stand, generator, size)
            time.sleep(CALM_S)
            figures["edge_bytes_a_connection"] = (stand.edge_bytes() - edge) / size
            figures["redis_bytes_a_connection"] = (stand.redis_bytes() - redis) / size
            before = stand.cpu_s()
            time.sleep(quiet_s)  # the silence that is measured
            spent = difference(before, stand.cpu_s())
            figures["idle_core_share"] = ours(spent) / quiet_s
            figures |= {f"idle_core_share.{name}": cpu_s / quiet_s for name, cpu_s in spent.items()}
            if (state := generator.state()).faults:
                measure.faults.append(state.faults)
            measure.add(figures)


def _connect(stand: Stand, generator: Generator, users: int) -> Figures:
    """Open connections, and say what it took; `connects_per_cpu_s` is how many a core would take, all processes counted."""
    before = stand.cpu_s()
    connected = generator.connect(users)
    spent = difference(before, stand.cpu_s())
    return {"connects_per_s": users / connected.seconds, "connects_per_cpu_s": users / ours(spent), **a_million(spent, users)}
