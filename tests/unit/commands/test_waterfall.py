"""router.commands.waterfall: rows and bars of a message's events."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from router.commands.waterfall import Row, bar, bar_chars, draw, rows
from router.trace import TraceEvent

TO = "user:alice"
EVENTS = [
    TraceEvent("m", TO, "appended", 1_000_000, "host-1"),
    TraceEvent("m", TO, "stored", 1_003_000, "host-1", seq=7),
    TraceEvent("m", TO, "dispatched", 1_004_000, "host-1", seq=7, nodes=("edge-1.a", "edge-2.b")),
    TraceEvent("m", TO, "delivered", 1_005_000, "edge-1.a", seq=7, session="s1", device="phone"),
    TraceEvent("m", TO, "delivered", 1_006_000, "edge-2.b", seq=7, session="s2"),
    TraceEvent("m", TO, "acked", 1_011_000, "edge-1.a", seq=7, session="s1", device="phone"),
]


def _drawn(events: list[TraceEvent], width: int = 120) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(draw("m", events))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_each_stage_begins_where_the_one_before_it_ended() -> None:
    """An ack follows the delivery of its own session, each delivery the dispatch; whatever order the events come in."""
    found = [(row.stage, row.began_ms, row.ended_ms) for row in rows(EVENTS[::-1], 1_000_000)]
    assert found == [
        ("appended", 0.0, 0.0),
        ("stored", 0.0, 3.0),
        ("dispatched", 3.0, 4.0),
        ("delivered", 4.0, 5.0),
        ("delivered", 4.0, 6.0),
        ("acked", 5.0, 11.0),
    ]


def test_rows_say_who_did_what() -> None:
    """Seq where it was given, nodes of the dispatch, session and device, the reason."""
    dead = TraceEvent("m", TO, "dead", 1, "host-1", why="to: is missing")
    details = [row.detail for row in rows([*EVENTS, dead], 0)]
    assert details == [
        "to: is missing",
        "",
        "seq 7",
        "to edge-1.a, edge-2.b",
        "session s1  device phone",
        "session s2",
        "session s1  device phone",
    ]


def test_first_events_may_be_trimmed() -> None:
    """What is left is drawn, counted from the first of it."""
    found = rows(EVENTS[3:], 1_005_000)
    assert [(row.began_ms, row.ended_ms) for row in found] == [(0.0, 0.0), (0.0, 1.0), (0.0, 6.0)]


@pytest.mark.parametrize(
    ("began_ms", "ended_ms", "span_ms", "drawn"),
    [
        (0.0, 0.0, 0.0, "━" + " " * 27),
        (0.0, 0.0, 10.0, "━" + " " * 27),
        (0.0, 10.0, 10.0, "━" * 27 + " "),
        (10.0, 10.0, 10.0, " " * 27 + "━"),
        (5.0, 5.001, 10.0, " " * 14 + "━" + " " * 13),
    ],
)
def test_bar(began_ms: float, ended_ms: float, span_ms: float, drawn: str) -> None:
    """It is as long as its part of the whole, never nothing, and never runs over."""
    assert bar(Row("x", began_ms, ended_ms, "", ""), span_ms, 28) == drawn


def test_drawing() -> None:
    """A table a target, a line a stage."""
    other = TraceEvent("m", "user:bob", "offline", 1_004_000, "host-1", seq=8, why="no_route")
    lines = _drawn([*EVENTS, other])
    assert lines[0] == "m → user:alice"
    assert [line.split()[0] for line in lines[1:7]] == [
        "appended", "stored", "dispatched", "delivered", "delivered", "acked",
    ]  # fmt: skip
    assert lines[6].split()[1:3] == ["+11.0", "ms"]
    assert lines[6].endswith("edge-1.a  session s1  device phone")
    assert lines[7] == "m → user:bob"
    assert lines[8].split()[0] == "offline"
    assert lines[8].endswith("host-1  no_route")


@pytest.mark.parametrize(("width", "chars"), [(200, 28), (100, 28), (80, 20), (68, 8), (67, 0), (20, 0)])
def test_bars_are_as_long_as_there_is_room(width: int, chars: int) -> None:
    """They are what gives way on a narrow terminal, down to where they would say nothing."""
    assert bar_chars(rows(EVENTS, 1_000_000), width) == chars


@pytest.mark.parametrize("width", [120, 100, 90, 86, 80, 78])
def test_a_row_stays_a_line(width: int) -> None:
    """As narrow as terminals usually are, a row that says whose session it was is not broken, with ids as long as they are."""
    nodes = {"edge-1.a": "edge-1.dfswub", "edge-2.b": "edge-2.x81k0q"}
    events = [
        replace(one, session=one.session and f"0696c0c4ac2c31{one.session}", by=nodes.get(one.by, one.by)) for one in EVENTS
    ]
    lines = _drawn(events, width)
    assert len(lines) == 1 + len(EVENTS)
    assert all(len(line) <= width for line in lines)
    assert lines[-1].endswith("session 0696c0c4ac2c31s1  device phone")


def test_nothing_steers_the_terminal() -> None:
    """Anybody may append an event: what is not printable is escaped, and markup is none."""
    evil = TraceEvent("m", "user:\x1b[2J", "sta\x1bge", 1, "[red]by[/red]", why="why\x07")
    text = "\n".join(_drawn([evil]))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]by[/red]" in text


def test_no_events_yet() -> None:
    """Before the first one there is a line to look at."""
    assert _drawn([]) == ["m: nothing yet"]
