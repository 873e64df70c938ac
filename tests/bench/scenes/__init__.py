"""What is measured, a module a scene.

Runs of all scenarios of a scene take turns, so that what else the machine does meanwhile falls on all of them alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.bench.bench import Bench
from tests.bench.scenes import crowd, growth, heartbeats, lanes, peers, store
from tests.bench.wishes import Scene

SCENES: Final[dict[Scene, Callable[[Bench], None]]] = {
    "lanes": lanes.run,
    "store": store.run,
    "stores": store.run_side_by_side,
    "crowd": crowd.run,
    "heartbeats": heartbeats.run,
    "growth": growth.run,
    "peers": peers.run,
}


def run_all(bench: Bench) -> None:
    """Measure what is wished for."""
    for scene in bench.wishes.scenes:
        SCENES[scene](bench)
