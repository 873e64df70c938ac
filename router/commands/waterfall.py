"""The waterfall of a message: a row a stage, a bar from the stage before it, who did it.

What stands in a row is worked out apart from how it is drawn. The stage before is that of the same session, where there is
one (an ack follows its delivery); else the dispatch, for what an edge did; else whatever came last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.commands.output import printable
from router.trace import Stage, TraceEvent, by_time

_BAR_CHARS: Final = 28
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
            _table(rows(of_target, origin_us), span_ms),
        ]
    return Group(*parts)


def _table(found: Sequence[Row], span_ms: float) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for row in found:
        style = _STYLES.get(row.stage, _STYLE)
        table.add_row(
            Text(printable(row.stage), style=style),
            f"{row.ended_ms:+.1f} ms",
            Text(bar(row, span_ms), style=style),
            Text(printable(row.by), style="dim"),
            Text(printable(row.detail)),
        )
    return table


def bar(row: Row, span_ms: float) -> str:
    """Return a row's bar: as long as its part of the span, and never nothing."""
    scale = (_BAR_CHARS - 1) / span_ms if span_ms > 0 else 0.0
    begin, end = (round(at_ms * scale) for at_ms in (row.began_ms, row.ended_ms))
    return (" " * begin + "━" * max(1, end - begin)).ljust(_BAR_CHARS)
