"""Pictures of a report for docs/performance.md. Each says one thing, and says it without its colours too.

Colours are of Okabe and Ito's set, which people with any kind of colour blindness tell apart
(https://jfly.uni-koeln.de/color/); lines have markers of their own as well, bars their figures. Needs matplotlib, the extra
`bench`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from PIL import Image

from tests.bench.results import BY_PROCESS, Kind, Measure, Results
from tests.bench.scenes.growth import BODIES_TITLE, RATES_TITLE, TITLES
from tests.bench.sheets import PROCESSES
from tests.bench.targets import TARGETS

BLUE, ORANGE, GREEN, SKY, PURPLE, VERMILION, YELLOW = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#56B4E9",
    "#CC79A7",
    "#D55E00",
    "#F0E442",
)
GREY: Final = "#8C8C8C"

PROCESS_COLOURS: Final = dict(zip(PROCESSES, (VERMILION, ORANGE, PURPLE, BLUE, GREEN, YELLOW, GREY), strict=True))

OURS: Final = "Pushway"

_DPI: Final = 110
_COLOURS: Final = 64
_KIB: Final = 1_024
_THOUSAND: Final = 1_000
_MILLION: Final = 1_000_000

_STYLE: Final[Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def plot(results: Results, folder: Path) -> Iterator[Path]:
    """Draw what the report has figures for; yield each file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PLOTS.items():
        with mpl.rc_context(_STYLE):
            figure = draw(results)
        if figure is not None:
            path = folder / f"{name}.png"
            save(figure, path)
            yield path


def save(figure: Figure, path: Path) -> None:
    """Write a picture with few colours, which a page loads quickly."""
    drawn = BytesIO()
    figure.savefig(drawn, dpi=_DPI)
    Image.open(drawn).convert("RGB").quantize(_COLOURS).save(path, optimize=True)


def _of(results: Results, kind: Kind, figure: str) -> list[Measure]:
    return [measure for measure in results.measures.values() if measure.kind == kind and measure.has(figure)]


def _short(value: float, _place: float | None = None) -> str:
    """Return a number as it fits an axis."""
    if abs(value) >= _MILLION:
        return f"{value / _MILLION:g} M"
    return f"{value / _THOUSAND:g} k" if abs(value) >= _THOUSAND else f"{value:g}"


def _bytes(value: float) -> str:
    return f"{value / _KIB:g} Ki" if value >= _KIB else f"{value:g}"


def _places(count: int, height: float = 0.8) -> list[float]:
    """Return where rows stand, the first at the top."""
    return [-number * (1 + (1 - height)) for number in range(count)]


# -- our own cost by process ---------------------------------------------------------------------------------------------


def lanes(results: Results) -> Figure | None:
    """Draw what a million messages cost on each lane that needs no store, by process, and the targets."""
    measures = {name: measure for name, measure in results.measures.items() if measure.kind == "saturation"}
    names = [name for name, measure in measures.items() if not measure.has(f"{BY_PROCESS}store")]
    if not names:
        return None
    figure = Figure(figsize=(7.6, 0.9 + 0.36 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    places = _places(len(names))
    for name, place in zip(names, places, strict=True):
        _stack(axes, results.measures[name], place)
        _target(axes, name, place)
    axes.set_yticks(places, [results.measures[name].title for name in names])
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("CPU seconds of all servers for a million messages (less is better)")
    axes.set_title("Where the time goes, at saturation")
    _legend(axes)
    return figure


def _legend(axes: Axes) -> None:
    """Name each process once, in the order in which they stand."""
    handles, labels = axes.get_legend_handles_labels()
    by_label = dict(zip(labels, handles, strict=True))
    order = [label for label in (*PROCESSES, "target") if label in by_label]
    axes.legend([by_label[label] for label in order], order, frameon=False, loc="upper right")


def _stack(axes: Axes, measure: Measure, place: float) -> None:
    left = 0.0
    for process in PROCESSES:
        if process != "null store" and measure.has(BY_PROCESS + process):
            cost = measure.median(BY_PROCESS + process)
            axes.barh(place, cost, left=left, color=PROCESS_COLOURS[process], label=process, edgecolor="white", linewidth=0.5)
            left += cost
    axes.text(left, place, f" {left:.1f}", va="center")


def _target(axes: Axes, name: str, place: float) -> None:
    target = TARGETS.get(name, {}).get("cpu_s_a_million")
    if target is not None and target.at_most is not None:
        axes.plot([target.at_most] * 2, [place - 0.5, place + 0.5], color="black", linewidth=2, label="target")


# -- beside others -------------------------------------------------------------------------------------------------------


def peers(results: Results) -> Figure | None:
    """Draw what others need for the same."""
    rows = sorted(_of(results, "peers", "x1_cpu_s_a_million"), key=lambda row: row.median("x1_cpu_s_a_million"))
    if not rows:
        return None
    figure = Figure(figsize=(9.6, 1.2 + 0.42 * len(rows)), layout="constrained")
    cost, latency = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    figure.suptitle("One message to one user, 1,000 users, everything on one machine", x=0.01, ha="left", fontsize=11)
    places = _places(len(rows))
    _bars(cost, rows, places, ("x1_cpu_s_a_million", "x4_cpu_s_a_million"))
    cost.set_yticks(places, [row.title for row in rows])
    for label, row in zip(cost.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row.title.startswith(OURS) else "normal")
    cost.set_xlabel("CPU seconds of all servers for a million (less is better)")
    cost.legend(["1 under way a user", "4 under way a user"], frameon=False, loc="upper right")
    _ranges(latency, rows, places)
    latency.set_xlabel("ms on the way, at 1,000/s (less is better)")
    return figure


def _bars(axes: Axes, rows: Sequence[Measure], places: Sequence[float], figures: Sequence[str]) -> None:
    height = 0.8 / len(figures)
    for number, (name, colour) in enumerate(zip(figures, (BLUE, ORANGE), strict=False)):
        values = [row.median(name) if row.has(name) else 0.0 for row in rows]
        at = [place + (0.5 - number) * height for place in places]
        axes.barh(at, values, height=height, color=colour)
        for value, place in zip(values, at, strict=True):
            axes.text(value, place, f" {value:.1f}", va="center", fontsize=7)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.12)


def _ranges(axes: Axes, rows: Sequence[Measure], places: Sequence[float]) -> None:
    """Draw p50 and p99, with a line from one to the other."""
    p50, p99 = ([row.median(f"at_1000_{name}") for row in rows] for name in ("p50_ms", "p99_ms"))
    axes.hlines(places, p50, p99, color=GREY, linewidth=1.5)
    axes.plot(p50, places, "o", color=GREEN, label="p50")
    axes.plot(p99, places, "D", color=VERMILION, label="p99")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(_short))
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)


# -- growth --------------------------------------------------------------------------------------------------------------


def growth(results: Results) -> Figure | None:
    """Draw a panel for each thing that grows."""
    points = _of(results, "growth", "cpu_s_a_million")
    titles = [title for title in TITLES if any(point.title == title for point in points)]
    if not titles:
        return None
    columns = 3
    figure = Figure(figsize=(9.6, 2.9 * -(-len(titles) // columns)), layout="constrained")
    figure.suptitle("Fast lane: CPU µs a message, by process, as it grows", x=0.01, ha="left", fontsize=11)
    panels = figure.subplots(-(-len(titles) // columns), columns, squeeze=False)
    places = list(panels.flat)
    for axes, title in zip(places, titles, strict=False):
        _panel(axes, title, sorted((point for point in points if point.title == title), key=lambda point: point.at or 0.0))
    for axes in places[len(titles) :]:
        axes.axis("off")
    handles, labels = places[0].get_legend_handles_labels()
    place: Axes | Figure = places[-1] if len(places) > len(titles) else figure
    place.legend(handles, labels, frameon=False, loc="center", fontsize=10)
    return figure


_SERIES: Final = (
    ("in all", "cpu_s_a_million", "black", "s"),
    ("redis", f"{BY_PROCESS}redis", PROCESS_COLOURS["redis"], "o"),
    ("dispatch", f"{BY_PROCESS}dispatch", PROCESS_COLOURS["dispatch"], "v"),
    ("edge", f"{BY_PROCESS}edge", PROCESS_COLOURS["edge"], "^"),
)
"""Label, figure, colour and marker of each line."""


def _panel(axes: Axes, title: str, points: Sequence[Measure]) -> None:
    at = [point.at or 0.0 for point in points]
    for label, figure, colour, mark in _SERIES:
        values = [point.median(figure) for point in points]
        axes.plot(at, values, marker=mark, color=colour, label=label, markersize=5, linewidth=1.5)
    axes.set_xscale("log")
    axes.set_xticks(at, [(_bytes if title == BODIES_TITLE else _short)(value) for value in at])
    axes.xaxis.set_minor_locator(NullLocator())
    if title in {RATES_TITLE, BODIES_TITLE}:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(_short))
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(title)
    axes.set_ylabel("CPU µs a message")
    if title == RATES_TITLE:
        _batches(axes, at, points)


def _batches(axes: Axes, at: Sequence[float], points: Sequence[Measure]) -> None:
    """Write at each point how many entries a batch of dispatch had."""
    for place, point in zip(at, points, strict=True):
        if point.has("batch_size"):
            where = (place, point.median("cpu_s_a_million"))
            axes.annotate(
                f"{point.median('batch_size'):.0f}", where, (0, 6), textcoords="offset points", ha="center", fontsize=7
            )
    axes.set_title("(at the squares: entries a batch)", fontsize=8)


PLOTS: Final[dict[str, Callable[[Results], Figure | None]]] = {"lanes": lanes, "peers": peers, "growth": growth}
