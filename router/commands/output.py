"""How commands for people print: plain text that a terminal cannot be tricked by, or JSON."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import typer


def print_json(value: object) -> None:
    """Print one JSON value on a line."""
    typer.echo(msgspec.json.encode(value).decode())


def print_columns(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under titles, in columns as wide as what stands in them."""
    table = [titles, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def printable(text: str) -> str:
    r"""Return text with every character escaped that is not printable: a message must not steer the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def duration(seconds: float) -> str:
    """Return a time span for people: 8s, 5m, 3h, 12d."""
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f}{unit}"
    return f"{seconds:.0f}s"
