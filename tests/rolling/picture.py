"""The picture of a rolling restart for docs/scaling.md: how many clients came back each second, edge after edge."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure
from PIL import Image

from tests.bench.plots import BLUE, GREY, ORANGE
from tests.rolling.restart import Rolled, per_s

_STEP_S: Final = 0.5
_DPI: Final = 110
_COLOURS: Final = 64
_AROUND_S: Final = 2.0
"""What is shown before the first restart, and behind the last."""


def draw(rolled: Rolled, path: Path) -> None:
    """Write the picture."""
    begin_s, end_s = rolled.restarts[0].told_s - _AROUND_S, rolled.restarts[-1].back_s + _AROUND_S
    returns = rolled.heard.returns
    rates = per_s([found.back_s for found in returns], begin_s, end_s, _STEP_S)
    at_s = [number * _STEP_S for number in range(len(rates))]
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True}):
        figure = Figure(figsize=(9.6, 3.4), layout="constrained")
        axes = figure.subplots()
        for restart in rolled.restarts:
            told_s, ended_s, back_s = (when - begin_s for when in (restart.told_s, restart.ended_s, restart.back_s))
            axes.axvspan(told_s, told_s + rolled.drain_s, color=ORANGE, alpha=0.25, linewidth=0)
            axes.axvspan(ended_s, back_s, ymin=0, ymax=0.03, color=GREY, linewidth=0)
            axes.text(told_s, max(rates) * 1.12, f"{restart.edge}: {len(restart.returns):,} clients", fontsize=8)
        axes.step(at_s, rates, where="post", color=BLUE, linewidth=1.5)
        axes.set_ylim(0, max(rates) * 1.2)
        axes.set_xlim(0, end_s - begin_s)
        axes.set_xlabel(f"seconds (shaded: drain_timeout_s, {rolled.drain_s:g} s; grey at the foot: the edge is away)")
        axes.set_ylabel("clients back a second")
        axes.set_title(
            f"All edges restarted one after another: {rolled.connections:,} connections, "
            f"{rolled.rate_per_s:g} messages a second, {rolled.heard.missed} of {rolled.heard.sent:,} lost",
            loc="left",
            fontsize=10,
        )
        drawn = path.with_suffix(".drawn.png")
        figure.savefig(drawn, dpi=_DPI)
    Image.open(drawn).convert("RGB").quantize(_COLOURS).save(path, optimize=True)
    drawn.unlink()
