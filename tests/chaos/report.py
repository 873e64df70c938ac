"""A verdict for people, as tables, and for programs, as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import attrgetter
from statistics import median
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from tests.chaos.checker import Figures, Finding, Kind, Verdict
from tests.chaos.recovery import Recovery

_SHOWN: Final = 10
"""Most findings of one kind that are shown; the JSON has them all."""


def minutes_text(minutes: float) -> str:
    """Return a number of minutes in words."""
    return "1 minute" if minutes == 1 else f"{minutes:g} minutes"


@dataclass(frozen=True, slots=True)
class Felt:
    """How long the faults of one kind were felt, by the devices that they delayed, all of them together.

    Attributes:
        kind: what was done.
        faults: how often.
        affected: devices delayed, added up over the faults.
        p50_s: from the fault's beginning until half of those had caught up; None where nobody was delayed.
        max_s: until the last had.
        p50_after_s: likewise from the fault's end; 0 where all was well before it ended.
        max_after_s: likewise.
    """

    kind: str
    faults: int
    affected: int
    p50_s: float | None
    max_s: float | None
    p50_after_s: float | None
    max_after_s: float | None


def felt(recoveries: Iterable[Recovery]) -> list[Felt]:
    """Return one line a kind of fault, by name."""
    by_kind = groupby(sorted(recoveries, key=attrgetter("kind")), key=attrgetter("kind"))
    return [_felt(kind, list(some)) for kind, some in by_kind]


def _felt(kind: str, some: Sequence[Recovery]) -> Felt:
    after_s = [one for recovery in some for one in recovery.after_s]
    since_end_s = [recovery.since_end(one) for recovery in some for one in recovery.after_s]
    return Felt(kind, len(some), len(after_s), _median(after_s), _max(after_s), _median(since_end_s), _max(since_end_s))


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as values that json.dumps takes; times in seconds."""
    counts = verdict.counts
    return {
        "green": verdict.green,
        "counts": {kind.value: counts[kind] for kind in Kind},
        "figures": asdict(verdict.figures),
        "findings": [asdict(finding) for finding in verdict.findings],
        "excused": [asdict(finding) for finding in verdict.excused],
        "felt": [asdict(line) for line in felt(verdict.recoveries)],
        "faults": [_fault_json(recovery) for recovery in verdict.recoveries],
    }


def _fault_json(recovery: Recovery) -> dict[str, Any]:
    return asdict(recovery) | {
        "after_s": None,
        "affected": len(recovery.after_s),
        "p50_s": recovery.p50_s,
        "max_s": recovery.max_s,
    }


def tables(verdict: Verdict) -> RenderableType:
    """Return what a person wants to see of a verdict."""
    parts: list[RenderableType] = [_figures(verdict.figures), _felt_table(verdict.recoveries), _counts(verdict)]
    if verdict.findings:
        parts.append(_findings(verdict.findings))
    return Group(*parts)


def _figures(figures: Figures) -> Table:
    table = Table(title="The run", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    rows = {
        "length": f"{figures.seconds:.0f} s",
        "faults": f"{figures.faults:,}",
        "appended, each target counted": f"{figures.appended:,}",
        "accepted": f"{figures.accepted:,}",
        "devices": f"{figures.devices:,}",
        "connections, and how many of them were cut": f"{figures.connections:,} / {figures.cuts:,}",
        "deliveries": f"{figures.deliveries:,}",
        "repeats on a later connection, which are allowed": f"{figures.repeats:,}",
        "from XADD's answer to the device, p50 / p99": f"{_ms(figures.latency_p50_s)} / {_ms(figures.latency_p99_s)}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _felt_table(recoveries: Iterable[Recovery]) -> Table:
    table = Table(title="Until those whom a fault delayed had caught up", title_justify="left")
    table.add_column("fault")
    for name in ("times", "delayed", "from its beginning, p50", "max", "from its end, p50", "max"):
        table.add_column(name, justify="right")
    for line in felt(recoveries):
        times = (line.p50_s, line.max_s, line.p50_after_s, line.max_after_s)
        table.add_row(line.kind, f"{line.faults:,}", f"{line.affected:,}", *map(_seconds, times))
    return table


def _counts(verdict: Verdict) -> Table:
    table = Table(title="What is wrong", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    counts = verdict.counts
    for kind in Kind:
        count = counts[kind]
        table.add_row(kind.value, f"[bold red]{count:,}[/]" if count else "[green]0[/]")
    if verdict.excused:
        table.add_row("excused by a failover", f"[yellow]{len(verdict.excused):,}[/]")
    return table


def _findings(findings: Sequence[Finding]) -> Table:
    table = Table(title="Findings", title_justify="left")
    for name in ("what", "who", "target", "id", "facts"):
        table.add_column(name)
    for finding in _first_of_each(findings):
        table.add_row(*map(escape, (finding.kind.value, finding.who, finding.target, finding.id, finding.detail)))
    return table


def _first_of_each(findings: Iterable[Finding]) -> Iterator[Finding]:
    seen: dict[Kind, int] = {}
    for finding in findings:
        seen[finding.kind] = seen.get(finding.kind, 0) + 1
        if seen[finding.kind] <= _SHOWN:
            yield finding


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _max(values: Sequence[float]) -> float | None:
    return max(values, default=None)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f} s"
