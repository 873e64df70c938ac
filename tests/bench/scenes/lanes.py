"""Our own cost: connecting, and messages on every lane that needs no store, beside a bare writer."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.bench.bare import BareWriter
from tests.bench.bench import Bench
from tests.bench.stand import Stand
from tests.bench.way import OUTSTANDING, RATE_PER_S, TO_ALL_OUTSTANDING, Way, connect
from tests.servers import wait_until


def run(bench: Bench) -> None:
    """Connect and leave; then saturate each lane, and let messages drip into it."""
    with ExitStack() as stack:
        stand = stack.enter_context(bench.stand())
        for _ in bench.rounds:
            _connects(bench, stand)
        ways = ours(stand, stack, bench)
        bare = stack.enter_context(BareWriter(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        ways = (Way("bare", "bare writer", bare, stack.enter_context(bench.seated(bare)), "bare", all_lane="all"), *ways)
        bench.warm_up(ways)
        for _ in bench.rounds:
            for way in ways:
                saturate(bench, way)
            for way in ways:
                drip(bench, way, RATE_PER_S, f"at_{RATE_PER_S:.0f}", f"at {RATE_PER_S:,.0f}/s")
            for way in ways:
                _to_all(bench, way)
            if not bench.wishes.quick:
                half = bench.results.measures["fast_x1"].median("deliveries_per_s") / 2
                drip(bench, ways[1], half, "at_half", "at half of its saturation")


def ours(stand: Stand, stack: ExitStack, bench: Bench) -> tuple[Way, ...]:
    """Return our lanes, all to the same connections."""
    generator = stack.enter_context(bench.seated(stand))
    return (
        Way("fast", "fast lane", stand, generator, "fast", all_lane=stand.all_lane),
        Way("transient", "transient through in", stand, generator, "in", transient=1),
        Way("durable_null", "durable, null store", stand, generator, "in"),
    )


def saturate(bench: Bench, way: Way) -> None:
    """Measure a way at saturation."""
    for outstanding in OUTSTANDING:
        measure = bench.measure(f"{way.name}_x{outstanding}", f"{way.title} x{outstanding}", "saturation")
        measure.add(way.saturate(outstanding, bench.wishes.seconds, measure))


def drip(bench: Bench, way: Way, rate: float, name: str, title: str) -> None:
    """Measure a way at a rate."""
    measure = bench.measure(f"{way.name}_{name}", f"{way.title}, {title}", "rate")
    measure.add(way.drip(rate, bench.wishes.seconds, measure))


def _to_all(bench: Bench, way: Way) -> None:
    for outstanding in TO_ALL_OUTSTANDING if way.all_lane else ():
        measure = bench.measure(f"{way.name}_all_x{outstanding}", f"{way.title}, to all x{outstanding}", "saturation")
        measure.add(way.to_all(outstanding, bench.wishes.seconds, measure))


def _connects(bench: Bench, stand: Stand) -> None:
    """Open connections as fast as they are taken, and close them again."""
    users = bench.wishes.users
    measure = bench.measure("connects", f"connecting {users:,} users")
    with stand.generator(users) as generator:
        measure.add(connect(stand, generator, users))
    edge = stand.stack["edge-1"]
    wait_until(lambda: edge.metric("pushway_sessions") == 0, "the edge has seen them go")
