"""The picture of a chaos run: what was done to whom, and what the devices saw of it, on one axis of time. SVG, by hand.

From above: messages a second, delivered and appended; devices connected, and devices behind; then a row a process, with a bar
for each fault and a thread from its beginning to where the last device that it delayed had caught up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from tests.chaos import series
from tests.chaos.checker import PROMPT_S, Kind, Verdict
from tests.chaos.history import History
from tests.chaos.recovery import Recovery, recoveries

WIDTH: Final = 1_440
LEFT, RIGHT, TOP = 150, 40, 112
CHART_HEIGHT: Final = 130
ROW_HEIGHT: Final = 26
GAP: Final = 46

_POINTS_MAX: Final = 600
"""About as many points as the eye can tell apart on the axis."""

_LABEL_PX: Final = 6.2
"""About the width of a letter of a bar's label."""

COLOURS: Final = {
    "kill": "#c0392b",
    "pause": "#d98324",
    "restart": "#8e44ad",
    "failover": "#6c2eb9",
    "cut": "#2471a3",
    "hole": "#1f3a5f",
    "delay": "#3d9fc4",
    "throttle": "#5dade2",
    "slow": "#7d8c3c",
}
"""By the first word of a fault's kind."""

OTHER: Final = "#7f8c8d"
INK, FAINT, GRID, GOOD, BAD = "#1d2733", "#66727f", "#e3e8ed", "#1e8449", "#c0392b"
FLOW, ONLINE = "#2e86c1", "#9fb4c7"

_STYLE: Final = "text{font-family:system-ui,'Helvetica Neue',Arial,sans-serif;fill:" + INK + "}"


@dataclass(frozen=True, slots=True)
class Axis:
    """Seconds to pixels."""

    seconds: float

    def x(self, at_s: float) -> float:
        """Return where a moment is."""
        return LEFT + at_s / max(self.seconds, 0.001) * (WIDTH - LEFT - RIGHT)

    @property
    def step_s(self) -> float:
        """How long one point of a curve is: half a second, or more in a long run."""
        return max(0.5, self.seconds / _POINTS_MAX)

    def ticks(self) -> Iterator[float]:
        """Yield the moments that are marked."""
        every_s = next(step for step in (1, 2, 5, 10, 30, 60, 120, 300, 600, 3_600) if self.seconds / step <= 16)
        yield from (float(at_s) for at_s in range(0, int(self.seconds) + 1, every_s))


def draw(history: History, verdict: Verdict, title: str) -> str:
    """Return the picture as an SVG document.

    Args:
        history: what happened.
        verdict: what the checker says of it.
        title: what run it was, as in `seed 7, 2 minutes`.
    """
    axis = Axis(series.length_s(history))
    rows = sorted({recovery.process for recovery in verdict.recoveries}, key=_row_order)
    faults_top = TOP + 2 * (CHART_HEIGHT + GAP)
    bottom = faults_top + len(rows) * ROW_HEIGHT
    parts = [
        *_head(verdict, title),
        *_bands(verdict.recoveries, axis, bottom),
        *_grid(axis, bottom),
        *_flow(history, axis),
        *_devices(history, axis, TOP + CHART_HEIGHT + GAP),
        *_fault_rows(verdict.recoveries, rows, axis, faults_top),
        *_legend(verdict.recoveries, bottom + 50),
    ]
    height = bottom + 76
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
        f"<style>{_STYLE}</style>{_rect(0, 0, WIDTH, height, '#ffffff')}{''.join(parts)}</svg>\n"
    )


def _row_order(process: str) -> tuple[bool, str]:
    """Processes first, then links."""
    return ">" in process, process


def _head(verdict: Verdict, title: str) -> Iterator[str]:
    figures = verdict.figures
    said = "nothing lost, doubled or reordered" if verdict.green else _wrongs(verdict)
    yield _text(LEFT, 36, f"Pushway under fire: {title}", size=21, weight=600)
    yield _text(LEFT, 62, said, size=15, weight=600, colour=GOOD if verdict.green else BAD)
    yield _text(
        LEFT,
        84,
        f"{figures.faults:,} faults · {figures.accepted:,} messages accepted · {figures.deliveries:,} deliveries to "
        f"{figures.devices:,} devices over {figures.connections:,} connections",
        size=13,
        colour=FAINT,
    )


def _wrongs(verdict: Verdict) -> str:
    counts = verdict.counts
    return " · ".join(f"{kind.value}: {counts[kind]:,}" for kind in Kind if counts[kind])


def _bands(faults: Sequence[Recovery], axis: Axis, bottom: float) -> Iterator[str]:
    """Yield a faint band behind the curves for each fault."""
    for fault in faults:
        left, right = axis.x(fault.began_s), axis.x(fault.ended_s)
        yield _rect(left, TOP, max(1, right - left), bottom - TOP, _colour(fault), opacity=0.07)


def _grid(axis: Axis, bottom: float) -> Iterator[str]:
    for at_s in axis.ticks():
        yield _line(axis.x(at_s), TOP, axis.x(at_s), bottom, GRID)
        yield _text(axis.x(at_s), bottom + 18, _clock(at_s), size=11, colour=FAINT, anchor="middle")


def _flow(history: History, axis: Axis) -> Iterator[str]:
    got = series.deliveries(history, axis.seconds, axis.step_s)
    appended = series.appends(history, axis.seconds, axis.step_s)
    most = max([*got, *appended, 1.0])
    yield from _chart_frame("messages a second", most, TOP)
    yield _area(got, most, axis, TOP, FLOW, opacity=0.35)
    yield _curve(got, most, axis, TOP, FLOW)
    yield _curve(appended, most, axis, TOP, INK, dashed=True)
    yield from _keys(TOP, (("delivered", FLOW), ("appended", INK)))


def _devices(history: History, axis: Axis, top: float) -> Iterator[str]:
    online = series.connected(history, axis.seconds, axis.step_s)
    behind = series.behind(recoveries(history, PROMPT_S).behind, axis.seconds, axis.step_s)
    most = max([*online, *behind, 1.0])
    yield from _chart_frame("devices", most, top)
    yield _area(online, most, axis, top, ONLINE, opacity=0.35)
    yield _curve(online, most, axis, top, ONLINE)
    yield _area(behind, most, axis, top, BAD, opacity=0.35)
    yield _curve(behind, most, axis, top, BAD)
    yield from _keys(top, (("connected", ONLINE), (f"behind by more than {PROMPT_S:g} s", BAD)))


def _chart_frame(name: str, most: float, top: float) -> Iterator[str]:
    yield _line(LEFT, top + CHART_HEIGHT, WIDTH - RIGHT, top + CHART_HEIGHT, FAINT)
    yield _text(LEFT - 12, top + 10, f"{most:,.0f}", size=11, colour=FAINT, anchor="end")
    yield _text(LEFT - 12, top + CHART_HEIGHT, "0", size=11, colour=FAINT, anchor="end")
    yield _text(LEFT - 12, top + CHART_HEIGHT / 2 + 4, name, size=12, anchor="end")


def _keys(top: float, keys: Sequence[tuple[str, str]]) -> Iterator[str]:
    x = float(LEFT)
    for name, colour in keys:
        yield _rect(x, top - 15, 10, 10, colour, opacity=0.8)
        yield _text(x + 15, top - 6, name, size=11, colour=FAINT)
        x += 40 + len(name) * _LABEL_PX


def _fault_rows(faults: Sequence[Recovery], rows: Sequence[str], axis: Axis, top: float) -> Iterator[str]:
    yield _text(LEFT, top - 10, "faults, and until the last device that they delayed had caught up", size=12, colour=FAINT)
    for number, process in enumerate(rows):
        y = top + number * ROW_HEIGHT
        if number % 2 == 0:
            yield _rect(LEFT, y, WIDTH - LEFT - RIGHT, ROW_HEIGHT, GRID, opacity=0.35)
        yield _text(LEFT - 12, y + ROW_HEIGHT / 2 + 4, process, size=12, anchor="end")
        own = [fault for fault in faults if fault.process == process]
        nexts = [axis.x(fault.began_s) for fault in own[1:]] + [float(WIDTH - RIGHT)]
        for fault, free_until in zip(own, nexts, strict=True):
            yield from _fault(fault, axis, y, free_until)


def _fault(fault: Recovery, axis: Axis, y: float, free_until: float) -> Iterator[str]:
    colour, middle = _colour(fault), y + ROW_HEIGHT / 2
    left = axis.x(fault.began_s)
    right = max(axis.x(fault.ended_s), left + 3)
    if fault.max_s is not None:
        caught_up = axis.x(fault.began_s + fault.max_s)
        yield _line(left, middle, caught_up, middle, colour, width=2)
        yield f'<circle cx="{caught_up:.1f}" cy="{middle:.1f}" r="3.5" fill="{colour}"/>'
        right_of_all = max(right, caught_up + 4)
    else:
        right_of_all = right
    tip = escape(f"{fault.fault}: {len(fault.after_s)} devices delayed")
    yield f"<g><title>{tip}</title>{_rect(left, y + 5, right - left, ROW_HEIGHT - 10, colour, radius=3)}</g>"
    label = fault.kind if fault.max_s is None else f"{fault.kind} {fault.max_s:.1f} s"
    if right_of_all + 5 + len(label) * _LABEL_PX < free_until:
        yield _text(right_of_all + 5, middle + 4, label, size=11, colour=FAINT)


def _legend(faults: Sequence[Recovery], y: float) -> Iterator[str]:
    x = float(LEFT)
    for word in sorted({_word(fault) for fault in faults}):
        yield _rect(x, y - 10, 12, 12, COLOURS.get(word, OTHER), radius=2)
        yield _text(x + 18, y, word, size=12)
        x += 50 + len(word) * _LABEL_PX * 1.1


def _word(fault: Recovery) -> str:
    return fault.kind.partition("-")[0]


def _colour(fault: Recovery) -> str:
    return COLOURS.get(_word(fault), OTHER)


def _clock(at_s: float) -> str:
    minutes, seconds = divmod(int(at_s), 60)
    return f"{minutes}:{seconds:02}"


def _points(values: Sequence[float], most: float, axis: Axis, top: float) -> str:
    bottom = top + CHART_HEIGHT
    places = ((min((at + 0.5) * axis.step_s, axis.seconds), value) for at, value in enumerate(values))
    return " ".join(f"{axis.x(at_s):.1f},{bottom - value / most * CHART_HEIGHT:.1f}" for at_s, value in places)


def _area(values: Sequence[float], most: float, axis: Axis, top: float, colour: str, *, opacity: float) -> str:
    bottom = top + CHART_HEIGHT
    corners = f"{axis.x(0):.1f},{bottom} {_points(values, most, axis, top)} {axis.x(axis.seconds):.1f},{bottom}"
    return f'<polygon points="{corners}" fill="{colour}" opacity="{opacity}"/>'


def _curve(values: Sequence[float], most: float, axis: Axis, top: float, colour: str, *, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="4 3" stroke-width="1"' if dashed else ' stroke-width="1.5"'
    return f'<polyline points="{_points(values, most, axis, top)}" fill="none" stroke="{colour}"{dashes}/>'


def _rect(x: float, y: float, width: float, height: float, colour: str, *, opacity: float = 1, radius: float = 0) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:g}" '
        f'fill="{colour}" opacity="{opacity:g}"/>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, width: float = 1) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width:g}"/>'


def _text(x: float, y: float, text: str, *, size: int, colour: str = INK, anchor: str = "start", weight: int = 400) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
        f'style="fill:{colour}">{escape(text)}</text>'
    )
