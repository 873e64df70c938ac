"""Restart all edges behind HAProxy under a crowd, say how it went, and draw it.

python -m tests.rolling docs/plots/reconnects.png
python -m tests.rolling out.png --connections 500 --edges 2 --drain 3
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tests.rolling.picture import draw
from tests.rolling.restart import CONNECTIONS, EDGES, Rolled, per_s, roll


def main(
    picture: Annotated[Path, typer.Argument(help="The PNG file to write.")],
    connections: Annotated[int, typer.Option(min=1, help="How many clients.")] = CONNECTIONS,
    edges: Annotated[int, typer.Option(min=2, help="How many edges.")] = EDGES,
    drain: Annotated[float, typer.Option(min=0.1, help="drain_timeout_s of the edges.")] = 10.0,
    rate: Annotated[float, typer.Option(min=1, help="Messages a second, to all together.")] = 500.0,
) -> None:
    """Run it; the exit code is 0 only when nothing was lost and everybody is back."""
    with tempfile.TemporaryDirectory() as folder:
        rolled = roll(Path(folder), connections=connections, edges=edges, drain_s=drain, rate_per_s=rate)
    draw(rolled, picture)
    sys.stdout.writelines(f"{line}\n" for line in in_words(rolled))
    raise typer.Exit(0 if rolled.heard.missed == rolled.heard.amiss == rolled.heard.away == 0 else 1)


def in_words(rolled: Rolled) -> list[str]:
    """Return what is worth a line: the whole, then each restart."""
    heard = rolled.heard
    tries = sum(found.tries for found in heard.returns)
    lines = [f"{heard.sent} sent, {heard.missed} lost, {heard.amiss} amiss, {heard.away} away, {tries} tries in vain"]
    for restart in rolled.restarts:
        away_s = sorted(found.back_s - found.left_s for found in restart.returns) or [0.0]
        rates = per_s([found.back_s for found in restart.returns], restart.told_s, restart.back_s, 1.0)
        lines.append(
            f"{restart.edge}: {len(restart.returns)} clients, ended after {restart.ended_s - restart.told_s:.1f} s, back after "
            f"{restart.back_s - restart.ended_s:.1f} s more; most back in a second {max(rates):.0f}; away for "
            f"{away_s[len(away_s) // 2]:.2f} s in the middle, {away_s[-1]:.2f} s at most"
        )
    return lines


if __name__ == "__main__":
    typer.run(main)
