"""The same load against what people would pick instead, side by side: every system runs, and runs take turns.

Each peer has its producer's own way in (tests/bench/peers), the same generator, and a Redis of its own where it uses one. What
cannot be had here is skipped, and the report says why.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.bench.bare import BareWriter
from tests.bench.bench import Bench
from tests.bench.generator import GeneratorFailed
from tests.bench.peers.nats import Nats
from tests.bench.peers.nchan import Nchan, NchanStored
from tests.bench.peers.packages import SkippedError
from tests.bench.peers.peer import Peer
from tests.bench.peers.python_socketio import PythonSocketIO
from tests.bench.peers.socketio import SocketIO, SocketIOOnBun, SocketIOOnUws, SocketIOStreams
from tests.bench.results import Figures, Measure
from tests.bench.scenes.lanes import bare_way, ours
from tests.bench.way import EVERYBODY, FAN_OUT_OUTSTANDING, OUTSTANDING, RATE_PER_S, Way, weigh

PEERS: Final[tuple[type[Peer], ...]] = (
    *(Nats, SocketIOOnUws, SocketIOOnBun, SocketIO, SocketIOStreams),
    *(Nchan, NchanStored, PythonSocketIO),
)

WHY_CHARS: Final = 400

NOT_TRIED: Final = {
    "Centrifugo": "not written: `go install` was refused by the module proxy where this was, and nothing else packages it",
}


def run(bench: Bench) -> None:
    """Weigh each with a crowd of its own, then seat everybody and send."""
    bench.results.skipped |= NOT_TRIED
    there = [peer for peer in PEERS if _weigh_peer(bench, peer)]
    with bench.stand() as stand, stand.generator(bench.wishes.crowd) as generator:
        _row(bench, "fast", "Pushway, fast lane").add(weigh(stand, generator, bench.wishes.crowd))
    with ExitStack() as stack:
        ways = _seat_all(bench, stack, there)
        bench.warm_up(ways)
        for _ in bench.rounds:
            for way in ways:
                measure = _row(bench, way.name, way.title)
                measure.add(_figures(way, bench.wishes.seconds, measure))


def _row(bench: Bench, name: str, title: str) -> Measure:
    return bench.measure(f"peers_{name}", title, "peers")


def _weigh_peer(bench: Bench, kind: type[Peer]) -> bool:
    """Weigh a peer that has never had a connection; tell whether it is there at all."""
    bench.say(f"installing and weighing {kind.title}")
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            kind(Path(folder)) as peer,
            peer.generator(bench.wishes.crowd) as generator,
        ):
            _row(bench, peer.name, peer.title).add(weigh(peer, generator, bench.wishes.crowd))
    except (SkippedError, GeneratorFailed, AssertionError) as exc:  # the last is of servers that do not come up
        bench.results.skipped[kind.title] = str(exc)[:WHY_CHARS]
        return False
    return True


def _seat_all(bench: Bench, stack: ExitStack, kinds: list[type[Peer]]) -> list[Way]:
    bare = stack.enter_context(BareWriter(_folder(stack)))
    ways = [bare_way(bare, stack, bench)]
    stand = stack.enter_context(bench.stand())
    ways += [replace(way, title=f"Pushway, {way.title}") for way in ours(stand, stack, bench)]
    for kind in kinds:
        peer = stack.enter_context(kind(_folder(stack)))
        seats = stack.enter_context(bench.seated(peer))
        ways.append(Way(kind.name, kind.title, peer, seats, "user", wide_lanes={EVERYBODY: "all"}))
    return ways


def _folder(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory()))


def _figures(way: Way, seconds: float, measure: Measure) -> Figures:
    """Return everything that is measured of one system in one round; a figure's name begins with the load."""
    loads = {f"x{outstanding}": way.saturate(outstanding, seconds, measure) for outstanding in OUTSTANDING}
    loads[f"at_{RATE_PER_S:.0f}"] = way.drip(RATE_PER_S, seconds, measure)
    for outstanding in FAN_OUT_OUTSTANDING if EVERYBODY in way.wide_lanes else ():
        loads[f"all_x{outstanding}"] = way.fan_out(EVERYBODY, outstanding, seconds, measure)
    return {f"{load}_{figure}": value for load, figures in loads.items() for figure, value in figures.items()}
