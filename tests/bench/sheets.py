"""A report as plain tables: what stands in which, and nothing of how it looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tests.bench.results import BY_PROCESS, Kind, Measure, Results
from tests.bench.targets import ELSEWHERE, TARGETS, Target, at_most_of

PROCESSES: Final = ("redis", "dispatch", "collect", "edge", "store", "null store", "writer")

SAME: Final = 0.03
"""A ratio no further from 1 than this is not called a change."""

MET, MISSED, BETTER, WORSE, CHANCE, ALONE = "met", "missed", "better", "worse", "within the spread", "one run tells little"

_SMALL: Final = 100.0
_TINY: Final = 10.0


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= _SMALL else f"{value:.1f}" if abs(value) >= _TINY else f"{value:.2f}"


def _share(value: float) -> str:
    return f"{value:.1%}"


class Figure(NamedTuple):
    """How a figure is shown, and whether more of it is better."""

    heading: str
    more_is_better: bool = False
    text: Callable[[float], str] = _number


_RATE, _CPU = "deliveries/s", "CPU s a million"

FIGURES: Final[dict[str, Figure]] = {
    "deliveries_per_s": Figure(_RATE, more_is_better=True),
    "deliveries_per_cpu_s": Figure("deliveries/s a core", more_is_better=True),
    "cpu_s_a_million": Figure(_CPU),
    "store_wait_share": Figure("collect waits for its store", text=_share),
    "p50_ms": Figure("p50 ms"),
    "p99_ms": Figure("p99 ms"),
    "p999_ms": Figure("p99.9 ms"),
    "last_p50_ms": Figure("to the last: p50 ms"),
    "last_p99_ms": Figure("to the last: p99 ms"),
    "connects_per_s": Figure("connects/s", more_is_better=True),
    "connects_per_cpu_s": Figure("connects a CPU second", more_is_better=True),
    "replayed_per_s": Figure("replayed/s", more_is_better=True),
    "edge_bytes_a_connection": Figure("edge, bytes a connection"),
    "redis_bytes_a_connection": Figure("Redis, bytes a connection"),
    "idle_core_share": Figure("of a core while quiet", text=_share),
    "us_a_ping": Figure("CPU µs a ping"),
    "us_a_renewal": Figure("CPU µs a renewal"),
    "batch_size": Figure("entries a batch", more_is_better=True),
    "redis_bytes_a_route": Figure("Redis, bytes a route"),
    "x1_deliveries_per_s": Figure(f"x1: {_RATE}", more_is_better=True),
    "x1_cpu_s_a_million": Figure(f"x1: {_CPU}"),
    "x4_deliveries_per_s": Figure(f"x4: {_RATE}", more_is_better=True),
    "x4_cpu_s_a_million": Figure(f"x4: {_CPU}"),
    "at_1000_p50_ms": Figure("1,000/s: p50 ms"),
    "at_1000_p99_ms": Figure("1,000/s: p99 ms"),
    "at_1000_cpu_s_a_million": Figure("1,000/s: CPU µs each"),
    "all_x1_deliveries_per_s": Figure(f"to all x1: {_RATE}", more_is_better=True),
    "all_x1_deliveries_per_cpu_s": Figure("x1: a core", more_is_better=True),
    "all_x8_deliveries_per_s": Figure(f"to all x8: {_RATE}", more_is_better=True),
    "all_x8_deliveries_per_cpu_s": Figure("x8: a core", more_is_better=True),
}

_PEERS_ONE: Final = tuple(name for name in FIGURES if name.startswith(("x1_", "x4_", "at_")))
_PEERS_ALL: Final = (
    *(name for name in FIGURES if name.startswith("all_")),
    *("edge_bytes_a_connection", "redis_bytes_a_connection", "connects_per_s", "connects_per_cpu_s"),
)

SHOWN: Final[dict[Kind, tuple[str, ...]]] = {
    "saturation": ("deliveries_per_s", "cpu_s_a_million", "store_wait_share"),
    "fan_out": ("deliveries_per_s", "deliveries_per_cpu_s", "cpu_s_a_million", "last_p50_ms", "last_p99_ms"),
    "rate": ("p50_ms", "p99_ms", "p999_ms", "cpu_s_a_million", "store_wait_share"),
    "connections": (
        *("connects_per_s", "connects_per_cpu_s", "replayed_per_s"),
        *("edge_bytes_a_connection", "redis_bytes_a_connection", "idle_core_share"),
    ),
    "heartbeats": ("idle_core_share", "us_a_ping", "us_a_renewal"),
    "growth": ("deliveries_per_s", "cpu_s_a_million", "p50_ms", "p99_ms", "batch_size", "redis_bytes_a_route"),
    "peers": (*_PEERS_ONE, *_PEERS_ALL),
}

TITLES: Final[dict[Kind, str]] = {
    "saturation": "saturation",
    "fan_out": "one message to 1,000 connections",
    "rate": "at a fixed rate (CPU s a million is CPU µs a message)",
    "connections": "connections",
    "heartbeats": "what quiet connections cost",
    "growth": "as it grows (fast lane)",
    "peers": "beside others",
}

_WITH_PROCESSES: Final[dict[Kind, str]] = {
    "saturation": BY_PROCESS,
    "fan_out": BY_PROCESS,
    "rate": BY_PROCESS,
    "growth": BY_PROCESS,
    "heartbeats": "idle_core_share.",
}
"""Kinds whose cost is shown by process, and what the names of those figures begin with."""


@dataclass(slots=True)
class Sheet:
    """One table."""

    title: str
    headings: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)


def sheets(results: Results) -> Iterator[Sheet]:
    """Return the tables of a report that have anything in them: medians, and how far the runs lie apart."""
    yield from (sheet for sheet in _sheets(results) if sheet.rows)


def _sheets(results: Results) -> Iterator[Sheet]:
    yield _by_measure(results, "saturation")
    yield _by_measure(results, "fan_out")
    yield _by_measure(results, "rate")
    yield _peers(results, "one message to one user, 1,000 users", _PEERS_ONE)
    yield _peers(results, "to all of 1,000, and connections", _PEERS_ALL)
    for title in dict.fromkeys(measure.title for measure in results.measures.values() if measure.kind == "growth"):
        yield _by_measure(results, "growth", title)
    yield _by_measure(results, "heartbeats")
    yield _connections(results)
    yield _targets(results)
    yield _ratios(results)
    yield _skipped(results)


def compared(before: Results, after: Results) -> Sheet:
    """Return ratios, after to before, of what both have."""
    sheet = Sheet("medians compared", ("", "figure", "before", "after", "ratio", ""))
    for name, measure in before.measures.items():
        if name in after.measures:
            sheet.rows.extend(_compared(measure, after.measures[name]))
    return sheet


def row_title(measure: Measure) -> str:
    """Return what a row is called."""
    return measure.title if measure.at is None else f"{measure.title}: {measure.at:,.0f}"


def _by_measure(results: Results, kind: Kind, title: str | None = None) -> Sheet:
    """Return a table with a row a measure, of those of a kind, or only those of one title."""
    measures = [measure for measure in results.measures.values() if measure.kind == kind and title in {None, measure.title}]
    figures = [figure for figure in SHOWN[kind] if any(measure.has(figure) for measure in measures)]
    prefix = _WITH_PROCESSES.get(kind)
    parts = [prefix + process for process in PROCESSES if prefix and any(one.has(prefix + process) for one in measures)]
    # The generator's share tells nothing of what has no messages.
    parts += ["generator_core_share"] if any(measure.has("generator_core_share") for measure in measures) else []
    names = [part.rpartition(".")[2].replace("generator_core_share", "generator") for part in parts]
    sheet = Sheet(
        f"{TITLES[kind]}{f': {title}' if title else ''}", ["", *(FIGURES[figure].heading for figure in figures), *names]
    )
    for measure in measures:
        cells = [_cell(measure, figure) for figure in figures]
        head = measure.title if measure.at is None else f"{measure.at:,.0f}"
        sheet.rows.append([head, *cells, *(_part(measure, part) for part in parts)])
    return sheet


def _peers(results: Results, title: str, figures: Sequence[str]) -> Sheet:
    """Return a table of everybody, the cheapest first."""
    rows = [measure for measure in results.measures.values() if measure.kind == "peers" and measure.runs]
    rows.sort(key=lambda row: row.median("x1_cpu_s_a_million") if row.has("x1_cpu_s_a_million") else 0.0)
    sheet = Sheet(f"{TITLES['peers']}: {title}", ["", *(FIGURES[figure].heading for figure in figures)])
    sheet.rows += [[row.title, *(_cell(row, figure) for figure in figures)] for row in rows]
    return sheet


def _part(measure: Measure, part: str) -> str:
    if not measure.has(part):
        return ""
    return (_number if part.startswith(BY_PROCESS) else _share)(measure.median(part))


def _connections(results: Results) -> Sheet:
    sheet = Sheet(TITLES["connections"], ("", "figure", "median"))
    for measure in results.measures.values():
        if measure.kind == "connections":
            for figure in SHOWN["connections"]:
                if measure.has(figure):
                    sheet.rows.append((measure.title, FIGURES[figure].heading, _cell(measure, figure)))
    return sheet


def _targets(results: Results) -> Sheet:
    sheet = Sheet("targets", ("", "figure", "target", "median", ""))
    for name, bounds in TARGETS.items():
        measure = results.measures.get(name)
        if measure is not None:
            sheet.rows.extend(_against(target, measure, figure) for figure, target in bounds.items())
    return sheet


def _ratios(results: Results) -> Sheet:
    """Return the fast lane's cost by that of each peer in the same run, beside what the targets come to."""
    sheet = Sheet("targets, as ratios to others in this run", ("fast lane, to", "figure", "target", "ratio", ""))
    ours = results.measures.get("peers_fast")
    for name, known in ELSEWHERE.items():
        peer = results.measures.get(name)
        if ours and peer:
            sheet.rows.extend(_beside(ours, peer, figure, at_most_of(name, figure)) for figure in known if peer.has(figure))
    return sheet


def _beside(ours: Measure, peer: Measure, figure: str, at_most: float) -> tuple[str, ...]:
    ratio = ours.median(figure) / peer.median(figure)
    return peer.title, FIGURES[figure].heading, f"≤ {at_most:.2f}", f"{ratio:.2f}", MET if ratio <= at_most else MISSED


def _skipped(results: Results) -> Sheet:
    return Sheet("skipped", ("", "why"), [(name, " ".join(why.split())) for name, why in results.skipped.items()])


def _against(target: Target, measure: Measure, figure: str) -> tuple[str, ...]:
    how, median = FIGURES[figure], measure.median(figure)
    bound = f"≤ {how.text(target.at_most)}" if target.at_most is not None else f"≥ {how.text(target.at_least or 0.0)}"
    return measure.title, how.heading, bound, how.text(median), MET if target.met(median) else MISSED


def _cell(measure: Measure, figure: str) -> str:
    """Return a median, and half of what lies between the lowest and the highest run, as a share of it."""
    if not measure.has(figure):
        return ""
    values, median = measure.values(figure), measure.median(figure)
    text = FIGURES[figure].text(median)
    if len(values) == 1 or not median:
        return text
    return f"{text} ±{(values[-1] - values[0]) / 2 / abs(median):.0%}"


def _compared(before: Measure, after: Measure) -> Iterator[tuple[str, ...]]:
    for figure in SHOWN[before.kind]:
        if before.has(figure) and after.has(figure):
            how = FIGURES[figure]
            old, new = before.median(figure), after.median(figure)
            ratio = new / old if old else float("nan")
            verdict = _verdict(before, after, figure, ratio)
            yield row_title(before), how.heading, how.text(old), how.text(new), f"{ratio:.2f}", verdict


def _verdict(before: Measure, after: Measure, figure: str, ratio: float) -> str:
    if abs(ratio - 1) <= SAME:
        return ""
    if 1 in {len(before.values(figure)), len(after.values(figure))}:
        return ALONE
    if before.overlaps(after, figure):
        return CHANCE
    return BETTER if (ratio > 1) == FIGURES[figure].more_is_better else WORSE
