"""The waterfall of a message: a row a stage, a bar from the stage before it, who did it.

What stands in a row is worked out apart from how it is drawn. The stage before is that of the same session, where there is
one (an ack follows its delivery); else the dispatch, for what an edge did; else whatever came last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from router.commands.output import printable
from router.trace import Stage, TraceEvent, by_time

_BAR_CHARS: Final = 28
_BAR_MIN_CHARS: Final = 8
"""A shorter bar says nothing and is left out."""

_DETAIL_CHARS: Final = 40
"""What a row's detail gets before a bar does: a session and a device, say. What is longer is folded."""

_GAP_CHARS: Final = 2

_UNFOLDED_CHARS: Final = 1_000
"""Width where there is no terminal: a row stays a line for whatever reads it."""
_AT_EDGE: Final = frozenset({Stage.DELIVERED, Stage.REPLAYED, Stage.EXPIRED})

_STYLES: Final[dict[str, str]] = {
    Stage.DELIVERED: "green",
    Stage.REPLAYED: "green",
    Stage.ACKED: "bold green",
    Stage.OFFLINE: "yellow",
    Stage.EXPIRED: "yellow",
    Stage.DEAD: "red",
}
_STYLE: Final = "cyan"


@dataclass(frozen=True, slots=True)
class Row:
    """A stage of a message for one target.

    Attributes:
        stage: its name.
        began_ms: when the stage before it was over, counted from the first event of the message.
        ended_ms: when this one was.
        by: the worker or node.
        detail: seq, nodes, session, device or reason.
    """

    stage: str
    began_ms: float
    ended_ms: float
    by: str
    detail: str


def rows(events: Sequence[TraceEvent], origin_us: int) -> list[Row]:
    """Return the rows of one target's events, by time; offsets count from `origin_us`."""
    found: list[Row] = []
    ordered = by_time(events)
    for place, event in enumerate(ordered):
        before = _before(ordered[:place], event)
        began_us = event.at_us if before is None else before.at_us
        found.append(
            Row(event.stage, (began_us - origin_us) / 1_000, (event.at_us - origin_us) / 1_000, event.by, _detail(event))
        )
    return found


def _before(earlier: Sequence[TraceEvent], event: TraceEvent) -> TraceEvent | None:
    own = [one for one in earlier if event.session is not None and one.session == event.session and one.seq == event.seq]
    dispatched = [one for one in earlier if event.stage in _AT_EDGE and one.stage == Stage.DISPATCHED]
    return next((group[-1] for group in (own, dispatched, earlier) if group), None)


def _detail(event: TraceEvent) -> str:
    session = f"session {event.session}" if event.session else ""
    device = f"device {event.device}" if event.device else ""
    nodes = f"to {', '.join(event.nodes)}" if event.nodes else ""
    seq = f"seq {event.seq}" if event.seq is not None and event.stage in {Stage.STORED, Stage.REPEATED} else ""
    return "  ".join(part for part in (seq, nodes, session, device, event.why or "") if part)


def waterfall_console() -> Console:
    """Return a console to draw on."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_UNFOLDED_CHARS)


def draw(message_id: str, events: Sequence[TraceEvent]) -> RenderableType:
    """Return the waterfall of a message, a table a target."""
    if not events:
        return Text(f"{printable(message_id)}: nothing yet", style="dim")
    origin_us = min(event.at_us for event in events)
    span_ms = (max(event.at_us for event in events) - origin_us) / 1_000
    parts: list[RenderableType] = []
    for target in dict.fromkeys(event.to for event in by_time(events)):
        of_target = [event for event in events if event.to == target]
        parts += [
            Text(f"{printable(message_id)} → {printable(target)}", style="bold"),
            _Waterfall(rows(of_target, origin_us), span_ms),
        ]
    return Group(*parts)


@dataclass(frozen=True, slots=True)
class _Waterfall:
    """The rows of one target, with bars as long as the terminal has room for."""

    rows: Sequence[Row]
    span_ms: float

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        yield _table(self.rows, self.span_ms, bar_chars(self.rows, options.max_width))


def bar_chars(found: Sequence[Row], width: int) -> int:
    """Return how long the bars of these rows may be on a terminal of a width; 0 leaves them out."""
    others = [
        max(len(row.stage) for row in found),
        max(len(_offset(row)) for row in found),
        max(len(row.by) for row in found),
        min(_DETAIL_CHARS, max(len(row.detail) for row in found)),
    ]
    room = width - sum(others) - _GAP_CHARS * (len(others) + 1)
    return 0 if room < _BAR_MIN_CHARS else min(_BAR_CHARS, room)


def _table(found: Sequence[Row], span_ms: float, bars: int) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, _GAP_CHARS, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    if bars:
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for row in found:
        style = _STYLES.get(row.stage, _STYLE)
        table.add_row(
            Text(printable(row.stage), style=style),
            _offset(row),
            *([Text(bar(row, span_ms, bars), style=style)] if bars else []),
            Text(printable(row.by), style="dim"),
            Text(printable(row.detail)),
        )
    return table


def _offset(row: Row) -> str:
    return f"{row.ended_ms:+.1f} ms"


def bar(row: Row, span_ms: float, chars: int) -> str:
    """Return a row's bar: as long as its part of the span, and never nothing."""
    scale = (chars - 1) / span_ms if span_ms > 0 else 0.0
    begin, end = (round(at_ms * scale) for at_ms in (row.began_ms, row.ended_ms))
    return (" " * begin + "━" * max(1, end - begin)).ljust(chars)
