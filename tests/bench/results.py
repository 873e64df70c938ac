"""What was measured: figures of each run, their medians and spread, and the file that keeps them.

A figure's name ends with its unit. What a figure means stands in docs/performance.md.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final, Literal, Self

import msgspec
import psutil

from tests.bench.generator import Latency, Ran

SCHEMA: Final = 1

Figures = dict[str, float]

Kind = Literal["saturation", "fan_out", "rate", "connections", "heartbeats", "growth", "peers"]

NOT_OURS: Final = ("null store",)
"""Processes whose cost is told and not added up: they stand for something that is not there."""

STORE_LIMIT_SHARE: Final = 0.5
"""Collect does nothing else while it waits, so a path that took no time of its own would be less than twice as fast then."""

BY_PROCESS: Final = "cpu_s_a_million."
"""What the figures of single processes begin with."""


class Measure(msgspec.Struct):
    """One row: a scenario, the figures of each of its runs, and what has to be known to believe them.

    Attributes:
        kind: which table it stands in.
        notes: such as that the generator was the limit.
        at: where it stands on the axis of a growth.
        faults: what was lost, doubled or out of order; empty for a figure that counts.
    """

    title: str
    kind: Kind
    runs: list[Figures] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)
    faults: list[str] = msgspec.field(default_factory=list)
    at: float | None = None

    def add(self, figures: Figures) -> None:
        """Take the figures of one more run."""
        self.runs.append(figures)

    def has(self, figure: str) -> bool:
        """Tell whether there is such a figure."""
        return any(figure in run for run in self.runs)

    def median(self, figure: str) -> float:
        """Return the median of the runs."""
        return median(self.values(figure))

    def values(self, figure: str) -> list[float]:
        """Return the figure of each run, from the lowest."""
        return sorted(run[figure] for run in self.runs if figure in run)

    def overlaps(self, other: Self, figure: str) -> bool:
        """Tell whether the spread of both has something in common: a difference may be chance then."""
        ours, theirs = self.values(figure), other.values(figure)
        return ours[0] <= theirs[-1] and theirs[0] <= ours[-1]


Wish = float | str | bool | list[str] | None


class Machine(msgspec.Struct, frozen=True):
    """Where it was measured."""

    processor: str
    cores: int
    memory_bytes: int
    kernel: str
    python: str


class Results(msgspec.Struct):
    """A whole report.

    Attributes:
        commit: of the checkout; empty when there is none.
        load_average: of the last minute, before and after: well above what the bench itself needs, others were at work too.
        wishes: what the bench was asked for.
        measures: by name.
        skipped: what could not be measured, and why.
    """

    began: datetime
    commit: str
    machine: Machine
    wishes: dict[str, Wish]
    measures: dict[str, Measure] = msgspec.field(default_factory=dict)
    load_average: tuple[float, float] = (0.0, 0.0)
    schema: int = SCHEMA
    skipped: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def faults(self) -> list[str]:
        """Everything that went wrong."""
        return [f"{measure.title}: {fault}" for measure in self.measures.values() for fault in measure.faults]


def begin(wishes: dict[str, Wish]) -> Results:
    """Return a report without measures."""
    return Results(datetime.now(UTC), _commit(), _machine(), wishes, load_average=(os.getloadavg()[0], 0.0))


def finish(results: Results) -> None:
    """Note what can only be known at the end."""
    results.load_average = (results.load_average[0], os.getloadavg()[0])


def save(results: Results, path: Path) -> None:
    """Write a report."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")


def load(path: Path) -> Results:
    """Return a report that was saved.

    Raises:
        OSError: when it cannot be read.
        msgspec.DecodeError: when it is none.
    """
    return msgspec.json.decode(path.read_bytes(), type=Results)


def delivered(ran: Ran, spent: Figures) -> Figures:
    """Return the figures of a run of messages.

    Args:
        ran: what the generator saw.
        spent: CPU seconds by process, from before the run until all had come.
    """
    return {
        "deliveries_per_s": ran.per_s,
        **a_million(spent, ran.received),
        **_milliseconds("", ran.latency_us),
        **(_milliseconds("last_", ran.last_us) | _a_core(spent, ran.received) if ran.last_us.max else {}),
        "generator_core_share": ran.cpu_s / ran.seconds,
        "generator_without_core_share": ran.without_core_s / ran.seconds,
    }


def _milliseconds(prefix: str, latency: Latency) -> Figures:
    return {f"{prefix}{name}_ms": us / 1e3 for name, us in msgspec.structs.asdict(latency).items()}


def _a_core(spent: Figures, count: int) -> Figures:
    """Return how many one core would deliver that did all the work, unless the work was too little for the clock."""
    return {"deliveries_per_cpu_s": count / ours(spent)} if ours(spent) else {}


def ours(spent: Figures) -> float:
    """Return what all processes but the stand-ins have spent."""
    return sum(cpu_s for name, cpu_s in spent.items() if name not in NOT_OURS)


def a_million(spent: Figures, count: int) -> Figures:
    """Return what a million of something would cost, in all and by process."""
    by_process = {f"{BY_PROCESS}{name}": cpu_s * 1e6 / max(count, 1) for name, cpu_s in spent.items()}
    return {"cpu_s_a_million": ours(spent) * 1e6 / max(count, 1), **by_process}


def blame(measure: Measure, ran: Ran) -> None:
    """Note what is wrong with a run, or with what measured it."""
    if ran.faults:
        measure.faults.append(f"of {ran.sent:,}: {ran.faults}")
    if ran.refused:
        measure.faults.append(f"Redis refused {ran.refused:,} appends")
    if ran.limit and ran.limit not in measure.notes:
        measure.notes.append(ran.limit)


def blame_store(measure: Measure, wait_share: float) -> None:
    """Note when a run was the store's more than ours.

    Args:
        measure: whose run it was.
        wait_share: the part of it in which collect waited for the store.
    """
    note = f"the store was the limit: collect waited for it for more than {STORE_LIMIT_SHARE:.0%} of the time"
    if wait_share > STORE_LIMIT_SHARE and note not in measure.notes:
        measure.notes.append(note)


def difference(before: Figures, after: Figures) -> Figures:
    """Return what was spent between two readings."""
    return {name: after[name] - before[name] for name in before}


def _machine() -> Machine:
    return Machine(
        _processor(), psutil.cpu_count() or 0, psutil.virtual_memory().total, platform.release(), platform.python_version()
    )


def _processor() -> str:
    lines: Iterable[str] = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    command = [git, "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
