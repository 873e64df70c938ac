"""A plan for people: tables on a terminal and in Markdown, JSON, and a picture of cost against size."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from tests.bench.capacity.check import Foretold
from tests.bench.capacity.growth import Break
from tests.bench.capacity.plan import Plan

_UNITS: Final = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def short(value: float, unit: str = "") -> str:
    """Return a number as people read it: 12.3 M, 850."""
    for size, letter in _UNITS:
        if value >= size:
            return f"{value / size:.3g} {letter}{unit}"
    return f"{value:.3g} {unit}".strip()


def parts(plan: Plan) -> Table:
    """Return what a load takes, unit by unit."""
    load = plan.load
    title = f"{short(load.users)} users, {short(load.messages_per_s)} messages/s of which {load.durable:.0%} durable"
    table = Table("unit", "how many", "because of", "used of one", title=title)
    for part in plan.parts:
        table.add_row(part.name, f"{part.count:,}", part.binding, f"{part.used:.0%}")
    table.add_row("shards", f"{plan.shards:,}", "the most of the three kinds of owners", "")
    for name, cores in plan.cores.items():
        table.add_row(f"cores of {name}", f"{cores:,.1f}", "", "")
    for name, text in _sums(plan):
        table.add_row(name, text, "", "")
    return table


def _sums(plan: Plan) -> Iterable[tuple[str, str]]:
    yield "CPU µs a message, all in all", f"{plan.cpu_us_a_message:,.1f}"
    yield "memory of edges", short(plan.edge_bytes, "B")
    yield "memory of Redis", short(plan.redis_bytes, "B")
    yield "stored messages", short(plan.stored_bytes, "B")
    yield "to and from clients", short(plan.client_bits_per_s, "bit/s")
    yield "between the services", short(plan.inner_bits_per_s, "bit/s")


Row = tuple[Plan, Break]

_COLUMNS: Final[Sequence[tuple[str, Callable[[Plan, Break], str]]]] = (
    ("users", lambda plan, _next: short(plan.load.users)),
    ("messages/s", lambda plan, _next: short(plan.load.messages_per_s)),
    ("edges", lambda plan, _next: f"{plan.edges.count:,}"),
    ("edge hosts", lambda plan, _next: f"{plan.edge_hosts.count:,}"),
    ("shards", lambda plan, _next: f"{plan.shards:,}"),
    ("Redis primaries", lambda plan, _next: f"{plan.primaries.count:,}"),
    ("MongoDB primaries", lambda plan, _next: f"{plan.stores.count:,}"),
    ("cores in all", lambda plan, _next: f"{sum(plan.cores.values()):,.1f}"),
    ("memory of edges", lambda plan, _next: short(plan.edge_bytes, "B")),
    ("to clients", lambda plan, _next: short(plan.client_bits_per_s, "bit/s")),
    ("breaks first", lambda _plan, next_: f"{next_.part} ({next_.binding}), at {next_.at:.3g} times that"),
)


def sizes(rows: Sequence[Row]) -> Table:
    """Return a line a size, and what breaks next there."""
    table = Table(*(heading for heading, _ in _COLUMNS), title="As it grows, with as many messages a user")
    for row in rows:
        table.add_row(*(cell(*row) for _, cell in _COLUMNS))
    return table


def markdown(rows: Sequence[Row]) -> str:
    """Return the same for a page."""
    return _page_table([heading for heading, _ in _COLUMNS], ([cell(*row) for _, cell in _COLUMNS] for row in rows))


_FORETOLD: Final = ("what", "unit", "model", "measured", "model / measured")


def foretold(figures: Iterable[Foretold]) -> Table:
    """Return how well the model does."""
    table = Table(*_FORETOLD, title="What it has not learnt from")
    for figure in figures:
        table.add_row(*_cells(figure))
    return table


def foretold_markdown(figures: Iterable[Foretold]) -> str:
    """Return the same for a page."""
    return _page_table(_FORETOLD, map(_cells, figures))


def _cells(figure: Foretold) -> tuple[str, ...]:
    return figure.what, figure.unit, f"{figure.model:.3g}", f"{figure.measured:.3g}", f"{figure.ratio:.2f}"


def _page_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def put_in(page: str, *tables: str) -> str:
    """Return a page in which each of these tables stands in the place of that which has the same headings.

    Raises:
        ValueError: when there is none.
    """
    for table in tables:
        headings = table.partition("\n")[0]
        pattern = rf"(?m)^{re.escape(headings)}\n(?:\|.*\n)*"
        page, count = re.subn(pattern, lambda _found, table=table: table, page)  # type: ignore[misc]
        if not count:
            raise ValueError(f"no table on the page begins with {headings}")
    return page


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw what a size takes: cores by part, and the CPU of a message. Needs matplotlib, the extra `bench`."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and slow to load

    from tests.bench.plots import BLUE, GREEN, ORANGE, VERMILION, save  # noqa: PLC0415 - it needs matplotlib too

    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    users = [plan.load.users for plan, _ in rows]
    for name, colour, marker in zip(rows[0][0].cores, (BLUE, ORANGE, GREEN, VERMILION), "osD^", strict=True):
        left.plot(users, [plan.cores[name] for plan, _ in rows], color=colour, marker=marker, label=name)
    left.set(xscale="log", yscale="log", xlabel="users connected", ylabel="cores used")
    left.set_title("What it takes")
    left.legend(frameon=False)
    right.plot(users, [plan.cpu_us_a_message for plan, _ in rows], color="black", marker="o")
    right.set(xscale="log", xlabel="users connected", ylabel="CPU µs a message, all in all")
    right.set_ylim(bottom=0)
    right.set_title("What a message costs then")
    save(figure, path)


def as_json(plan: Plan, next_: Break) -> dict[str, Any]:
    """Return a plan for programs."""
    return {
        "load": {"users": plan.load.users, "messages_per_s": plan.load.messages_per_s, "durable": plan.load.durable},
        "units": {
            part.name: {"count": part.count, "because_of": part.binding, "used": round(part.used, 3)} for part in plan.parts
        },
        "shards": plan.shards,
        "cores": {name: round(cores, 2) for name, cores in plan.cores.items()},
        "edge_bytes": round(plan.edge_bytes),
        "redis_bytes": round(plan.redis_bytes),
        "stored_bytes": round(plan.stored_bytes),
        "client_bits_per_s": round(plan.client_bits_per_s),
        "inner_bits_per_s": round(plan.inner_bits_per_s),
        "breaks_first": {"unit": next_.part, "because_of": next_.binding, "at_times": round(next_.at, 2)},
    }
