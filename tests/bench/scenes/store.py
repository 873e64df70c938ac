"""What the embedded store allows: durable messages as `pushway up` has them, and what somebody missed coming back from it."""

from __future__ import annotations

from tests.bench.bench import Bench
from tests.bench.dialect import user_name
from tests.bench.replay import store_messages
from tests.bench.results import a_million, difference
from tests.bench.scenes.lanes import drip, saturate
from tests.bench.stand import Stand
from tests.bench.way import RATE_PER_S, Way


def run(bench: Bench) -> None:
    """Replay; then saturate the durable path, and let messages drip into it."""
    with bench.stand(null_store=False) as stand:
        _replay(bench, stand)
        with bench.seated(stand) as generator:
            way = Way("durable", "durable, embedded store", stand, generator, "in")
            bench.warm_up((way,))
            for _ in bench.rounds:
                saturate(bench, way)
                drip(bench, way, RATE_PER_S, f"at_{RATE_PER_S:.0f}", f"at {RATE_PER_S:,.0f}/s")


def _replay(bench: Bench, stand: Stand) -> None:
    """Have one user, who has had nothing else, come back to many messages, again and again."""
    missed = bench.wishes.missed
    measure = bench.measure("replay", f"replay of {missed:,} to one user")
    store_messages(stand.settings, user_name(0), missed)
    for _ in bench.rounds:
        before = stand.cpu_s()
        with stand.generator(1) as generator:
            connected = generator.connect(1, query="since=0", owed=missed)
            came = generator.replayed()
        spent = difference(before, stand.cpu_s())
        if came.faults:
            measure.faults.append(came.faults)
        measure.add({"replayed_per_s": came.received / (connected.seconds + came.seconds), **a_million(spent, missed)})
