"""What a store allows: durable messages through it, and what somebody missed coming back from it.

The embedded store alone, as `pushway up` has it; or beside it one that keeps nothing, which leaves our own cost, and the fast
server of the same project.
"""

from __future__ import annotations

from contextlib import ExitStack

from tests.bench.bench import Bench
from tests.bench.dialect import user_name
from tests.bench.peers.packages import SkippedError
from tests.bench.replay import store_messages
from tests.bench.results import a_million, difference
from tests.bench.scenes.lanes import drip, durable, saturate
from tests.bench.stand import Stand
from tests.bench.stores import EMBEDDED, MDB, NULL, Kind, mdb_is_here, mdb_program
from tests.bench.way import RATE_PER_S, Way


def run(bench: Bench) -> None:
    """Measure the embedded store."""
    _run(bench, (EMBEDDED,))


def run_side_by_side(bench: Bench) -> None:
    """Measure several stores in turns; among the lanes the null store has its turn anyway."""
    _run(bench, side_by_side(bench))


def side_by_side(bench: Bench) -> tuple[Kind, ...]:
    """Return all stores that can be had here; one may have to be built first."""
    null = () if "lanes" in bench.wishes.scenes else (NULL,)
    return (*null, EMBEDDED, *((MDB,) if _has_mdb(bench) else ()))


def _run(bench: Bench, kinds: tuple[Kind, ...]) -> None:
    """Replay from each; then saturate the durable path of each, and let messages drip into it.

    On systems of their own: to the embedded store what it holds already is no matter of indifference.
    """
    for kind in kinds:
        if kind.replays:
            with bench.stand(store=kind.server) as stand:
                _replay(bench, kind, stand)
    with ExitStack() as stack:
        ways = [_seat(bench, kind, stack) for kind in kinds]
        bench.warm_up(ways)
        for _ in bench.rounds:
            for way in ways:
                saturate(bench, way)
            for way in ways:
                drip(bench, way, RATE_PER_S, f"at_{RATE_PER_S:.0f}", f"at {RATE_PER_S:,.0f}/s")


def _seat(bench: Bench, kind: Kind, stack: ExitStack) -> Way:
    stand = stack.enter_context(bench.stand(store=kind.server))
    return durable(kind, stand, stack.enter_context(bench.seated(stand)))


def _has_mdb(bench: Bench) -> bool:
    if not mdb_is_here():
        bench.warn("secantus-mdb: cargo builds it into .pushway-bench, unless it has before. That takes several minutes")
    try:
        mdb_program()
    except SkippedError as exc:
        bench.results.skipped[MDB.title] = str(exc)
        return False
    return True


def _replay(bench: Bench, kind: Kind, stand: Stand) -> None:
    """Have one user, who has had nothing else, come back to many messages, again and again."""
    missed, of = bench.wishes.missed, kind.title.partition(", ")[2]
    measure = bench.measure(kind.replays, f"replay of {missed:,} to one user, {of}")
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
