"""A report for people: on a terminal, and as Markdown for docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from tests.bench.results import Results
from tests.bench.sheets import ALONE, BETTER, CHANCE, MET, MISSED, WORSE, Sheet, compared, row_title, sheets

_STYLES: Final = {MET: "green", BETTER: "green", MISSED: "red", WORSE: "red", CHANCE: "dim", ALONE: "dim"}


def show(results: Results) -> RenderableType:
    """Return the tables of a report."""
    remarks = [f"[yellow]{escape(note)}[/]" for note in _notes(results)]
    faults = [f"[red]{escape(fault)}[/]" for fault in results.faults]
    return Group(*(_table(sheet) for sheet in sheets(results)), escape(_circumstances(results)), *remarks, *faults)


def compare(before: Results, after: Results) -> RenderableType:
    """Return a table of ratios, after to before."""
    return _table(compared(before, after))


def markdown(results: Results) -> str:
    """Return the same as Markdown."""
    remarks = [f"- {remark}" for remark in (_circumstances(results), *_notes(results), *results.faults)]
    return "\n\n".join([*(_markdown(sheet) for sheet in sheets(results)), "\n".join(remarks)]) + "\n"


def _table(sheet: Sheet) -> Table:
    table = Table(*sheet.headings, title=sheet.title)
    for row in sheet.rows:
        table.add_row(*(_styled(cell) for cell in row))
    return table


def _styled(cell: str) -> str:
    style = _STYLES.get(cell)
    if style:
        return f"[{style}]{cell}[/]"
    value, spread, share = escape(cell).partition(" ±")
    return f"{value} [dim]±{share}[/]" if spread else value


def _markdown(sheet: Sheet) -> str:
    lines = [sheet.headings, ["---"] * len(sheet.headings), *sheet.rows]
    return f"### {sheet.title}\n\n" + "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _circumstances(results: Results) -> str:
    machine, (load_before, load_after) = results.machine, results.load_average
    return (
        f"{machine.cores} cores ({machine.processor}), kernel {machine.kernel}, Python {machine.python}; "
        f"commit {results.commit or 'unknown'}; load average {load_before:.1f} before, {load_after:.1f} after"
    )


def _notes(results: Results) -> Iterator[str]:
    for measure in results.measures.values():
        for note in measure.notes:
            yield f"{row_title(measure)}: {note}"
