"""Results for people: tables of one report, and of what has changed between two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from tests.bench.results import BY_PROCESS, Kind, Measure, Results
from tests.bench.targets import TARGETS, Target

PROCESSES: Final = ("redis", "dispatch", "collect", "edge", "store", "null store", "writer")

SAME: Final = 0.03
"""A ratio no further from 1 than this is not called a change."""

_SMALL: Final = 100.0


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= _SMALL else f"{value:.2f}"


def _share(value: float) -> str:
    return f"{value:.1%}"


class Figure(NamedTuple):
    """How a figure is shown, and whether more of it is better."""

    heading: str
    more_is_better: bool = False
    text: Callable[[float], str] = _number


FIGURES: Final[dict[str, Figure]] = {
    "deliveries_per_s": Figure("deliveries/s", more_is_better=True),
    "cpu_s_a_million": Figure("CPU s a million"),
    "p50_ms": Figure("p50 ms"),
    "p99_ms": Figure("p99 ms"),
    "p999_ms": Figure("p99.9 ms"),
    "connects_per_s": Figure("connects/s", more_is_better=True),
    "connects_per_cpu_s": Figure("connects a CPU second", more_is_better=True),
    "replayed_per_s": Figure("replayed/s", more_is_better=True),
    "edge_bytes_a_connection": Figure("edge, bytes a connection"),
    "redis_bytes_a_connection": Figure("Redis, bytes a connection"),
    "idle_core_share": Figure("of a core while quiet", text=_share),
}

_SHOWN: Final[dict[Kind, tuple[str, ...]]] = {
    "saturation": ("deliveries_per_s", "cpu_s_a_million"),
    "rate": ("p50_ms", "p99_ms", "p999_ms", "cpu_s_a_million"),
    "connections": (
        *("connects_per_s", "connects_per_cpu_s", "replayed_per_s"),
        *("edge_bytes_a_connection", "redis_bytes_a_connection", "idle_core_share"),
    ),
}

_TITLES: Final[dict[Kind, str]] = {
    "saturation": "saturation",
    "rate": "at a fixed rate (CPU s a million is CPU µs a message)",
    "connections": "connections",
}


def show(results: Results) -> RenderableType:
    """Return the tables of a report: medians, and how far the runs lie apart."""
    tables = [_table(results, "saturation"), _table(results, "rate"), _connections(results), _targets(results)]
    return Group(*(table for table in tables if table.row_count), *_remarks(results))


def compare(before: Results, after: Results) -> RenderableType:
    """Return a table of ratios, after to before."""
    table = Table("", "figure", "before", "after", "ratio", "", title="medians compared")
    for name, measure in before.measures.items():
        if name in after.measures:
            for row in _compared(measure, after.measures[name]):
                table.add_row(*row)
    return table


def _table(results: Results, kind: Kind) -> Table:
    measures = [measure for measure in results.measures.values() if measure.kind == kind]
    processes = [process for process in PROCESSES if any(measure.has(BY_PROCESS + process) for measure in measures)]
    headings = [FIGURES[figure].heading for figure in _SHOWN[kind]]
    table = Table("", *headings, *processes, "generator", title=_TITLES[kind])
    for measure in measures:
        cells = [_cell(measure, figure) for figure in _SHOWN[kind]]
        parts = [_median(measure, BY_PROCESS + process) for process in processes]
        table.add_row(measure.title, *cells, *parts, _share(measure.median("generator_core_share")))
    return table


def _connections(results: Results) -> Table:
    table = Table("", "figure", "median", title=_TITLES["connections"])
    for measure in results.measures.values():
        if measure.kind == "connections":
            for figure in _SHOWN["connections"]:
                if measure.has(figure):
                    table.add_row(measure.title, FIGURES[figure].heading, _cell(measure, figure))
    return table


def _targets(results: Results) -> Table:
    table = Table("", "figure", "target", "median", "", title="targets")
    for name, bounds in TARGETS.items():
        measure = results.measures.get(name)
        if measure is not None:
            for figure, target in bounds.items():
                table.add_row(*_against(target, measure, figure))
    return table


def _against(target: Target, measure: Measure, figure: str) -> tuple[str, ...]:
    how, median = FIGURES[figure], measure.median(figure)
    bound = f"≤ {how.text(target.at_most)}" if target.at_most is not None else f"≥ {how.text(target.at_least or 0.0)}"
    verdict = "[green]met[/]" if target.met(median) else "[red]missed[/]"
    return measure.title, how.heading, bound, how.text(median), verdict


def _cell(measure: Measure, figure: str) -> str:
    """Return a median, and half of what lies between the lowest and the highest run, as a share of it."""
    values, median = measure.values(figure), measure.median(figure)
    text = FIGURES[figure].text(median)
    if len(values) == 1 or not median:
        return text
    return f"{text} [dim]±{(values[-1] - values[0]) / 2 / median:.0%}[/]"


def _median(measure: Measure, figure: str) -> str:
    return _number(measure.median(figure)) if measure.has(figure) else ""


def _compared(before: Measure, after: Measure) -> Iterator[tuple[str, ...]]:
    for figure in _SHOWN[before.kind]:
        if before.has(figure) and after.has(figure):
            how = FIGURES[figure]
            old, new = before.median(figure), after.median(figure)
            ratio = new / old if old else float("nan")
            verdict = _verdict(before, after, figure, ratio)
            yield before.title, how.heading, how.text(old), how.text(new), f"{ratio:.2f}", verdict


def _verdict(before: Measure, after: Measure, figure: str, ratio: float) -> str:
    if abs(ratio - 1) <= SAME:
        return ""
    if before.overlaps(after, figure):
        return "[dim]within the spread[/]"
    return "[green]better[/]" if (ratio > 1) == FIGURES[figure].more_is_better else "[red]worse[/]"


def _remarks(results: Results) -> Iterator[str]:
    machine, (load_before, load_after) = results.machine, results.load_average
    yield (
        f"{machine.cores} cores ({machine.processor}), kernel {machine.kernel}, Python {machine.python}; "
        f"commit {results.commit or 'unknown'}; load average {load_before:.1f} before, {load_after:.1f} after"
    )
    for measure in results.measures.values():
        for note in measure.notes:
            yield f"[yellow]{escape(f'{measure.title}: {note}')}[/]"
    for fault in results.faults:
        yield f"[red]{escape(fault)}[/]"
