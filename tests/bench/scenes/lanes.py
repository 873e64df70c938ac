"""Our own cost: connecting, and messages on every lane that needs no store, beside a bare writer."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.bench.bare import BareWriter
from tests.bench.bench import Bench
from tests.bench.generator import Generator
from tests.bench.stand import TOPIC, Stand
from tests.bench.stores import NULL, Kind
from tests.bench.way import EVERYBODY, FAN_OUT_OUTSTANDING, OUTSTANDING, RATE_PER_S, Way, connect
from tests.servers import wait_until

MIDDLE_PER_S: Final = 8_000.0
"""Between messages that come one by one and saturation: what a shard has that is one of many."""

_QUICK_FAN_OUT: Final = {"bare_all", "fast_all"}


def run(bench: Bench) -> None:
    """Connect and leave; then saturate each lane, and let messages drip into it."""
    with ExitStack() as stack:
        stand = stack.enter_context(bench.stand())
        for _ in bench.rounds:
            _connects(bench, stand)
        ways = ours(stand, stack, bench)
        bare = stack.enter_context(BareWriter(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        ways = (bare_way(bare, stack, bench), *ways)
        bench.warm_up(ways)
        for _ in bench.rounds:
            for way in ways:
                saturate(bench, way)
            for way in ways:
                drip(bench, way, RATE_PER_S, f"at_{RATE_PER_S:.0f}", f"at {RATE_PER_S:,.0f}/s")
            for way in ways:
                _fan_out(bench, way)
            if not bench.wishes.quick:
                half = bench.results.measures["fast_x1"].median("deliveries_per_s") / 2
                drip(bench, ways[1], half, "at_half", "at half of its saturation")
                for way in (ways[1], ways[3]):
                    drip(bench, way, MIDDLE_PER_S, f"at_{MIDDLE_PER_S:.0f}", f"at {MIDDLE_PER_S:,.0f}/s")


def ours(stand: Stand, stack: ExitStack, bench: Bench) -> tuple[Way, ...]:
    """Return our lanes, all to the same connections, which are subscribed to a topic besides."""
    generator = stack.enter_context(stand.generator(bench.wishes.users, TOPIC))
    generator.connect(bench.wishes.users)
    to_topic = f"topic:{TOPIC}"
    return (
        Way("fast", "fast lane", stand, generator, "fast", wide_lanes={EVERYBODY: "fast all", "topic": f"fast {to_topic}"}),
        Way("transient", "transient through in", stand, generator, "in", transient=1),
        replace(durable(NULL, stand, generator), wide_lanes={EVERYBODY: "in all"}),
    )


def durable(kind: Kind, stand: Stand, generator: Generator) -> Way:
    """Return the way of durable messages through a store."""
    return Way(kind.name, kind.title, stand, generator, "in", store_wait_s=stand.store_wait_s)


def bare_way(bare: BareWriter, stack: ExitStack, bench: Bench) -> Way:
    """Return the bare writer's way, to connections of its own."""
    generator = stack.enter_context(bench.seated(bare))
    return Way("bare", "bare writer", bare, generator, "bare", wide_lanes={EVERYBODY: "all"})


def saturate(bench: Bench, way: Way) -> None:
    """Measure a way at saturation."""
    for outstanding in OUTSTANDING:
        measure = bench.measure(f"{way.name}_x{outstanding}", f"{way.title} x{outstanding}", "saturation")
        measure.add(way.saturate(outstanding, bench.wishes.seconds, measure))


def drip(bench: Bench, way: Way, rate: float, name: str, title: str) -> None:
    """Measure a way at a rate."""
    measure = bench.measure(f"{way.name}_{name}", f"{way.title}, {title}", "rate")
    measure.add(way.drip(rate, bench.wishes.seconds, measure))


def _fan_out(bench: Bench, way: Way) -> None:
    """Measure messages that go to everybody at once, for half as long: there are a thousand times as many deliveries."""
    for audience in way.wide_lanes:
        name = f"{way.name}_{audience}"
        for outstanding in FAN_OUT_OUTSTANDING if not bench.wishes.quick or name in _QUICK_FAN_OUT else ():
            measure = bench.measure(f"{name}_x{outstanding}", f"{way.title}, to {audience} x{outstanding}", "fan_out")
            measure.add(way.fan_out(audience, outstanding, bench.wishes.seconds / 2, measure))


def _connects(bench: Bench, stand: Stand) -> None:
    """Open connections as fast as they are taken, and close them again."""
    users = bench.wishes.users
    measure = bench.measure("connects", f"connecting {users:,} users")
    with stand.generator(users) as generator:
        measure.add(connect(stand, generator, users))
    edge = stand.stack["edge-1"]
    wait_until(lambda: edge.metric("pushway_sessions") == 0, "the edge has seen them go")
