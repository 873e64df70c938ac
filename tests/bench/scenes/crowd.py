"""A quiet crowd: seated on an edge that has never had one, weighed, and watched for what its silence costs."""

from __future__ import annotations

import time
from typing import Final

from tests.bench.bench import Bench
from tests.bench.results import Figures, Measure, difference, ours
from tests.bench.stand import Stand
from tests.bench.way import weigh

SETTLED_S: Final = 25.0
"""After which each connection has been pinged, and its route renewed: before, a crowd is quieter than it will ever be again."""


def run(bench: Bench) -> None:
    """Do it once a run, each time with a new system."""
    size = bench.wishes.crowd
    for _ in bench.rounds:
        measure = bench.measure("crowd", f"{size:,} quiet connections")
        with bench.stand() as stand, stand.generator(size) as generator:
            figures = weigh(stand, generator, size)
            figures |= watch(stand, bench.wishes.quiet_s)
            blame_silence(measure, generator.state().faults)
            measure.add(figures)


def watch(stand: Stand, quiet_s: float) -> Figures:
    """Return the share of a core that silence costs once it has settled, in all and by process."""
    time.sleep(SETTLED_S)
    before = stand.cpu_s()
    time.sleep(quiet_s)  # the silence that is measured
    spent = difference(before, stand.cpu_s())
    shares = {f"idle_core_share.{name}": cpu_s / quiet_s for name, cpu_s in spent.items()}
    return {"idle_core_share": ours(spent) / quiet_s, **shares}


def blame_silence(measure: Measure, faults: str) -> None:
    """Note that somebody was cut off, or was sent something."""
    if faults:
        measure.faults.append(faults)
