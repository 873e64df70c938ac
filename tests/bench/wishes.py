"""What a bench is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Scene = Literal["lanes", "store", "stores", "crowd", "heartbeats", "growth", "peers"]

USUAL: Final[tuple[Scene, ...]] = ("lanes", "store", "crowd")
ALL: Final[tuple[Scene, ...]] = ("lanes", "stores", "crowd", "heartbeats", "growth", "peers")
"""The embedded store is among the stores."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is asked for.

    Attributes:
        scenes: what to measure, in this order; see tests/bench/scenes.
        quick: the short way: nothing at a part of saturation.
        runs: of each scenario.
        seconds: of messages, in each run.
        users: that messages go to.
        crowd: quiet connections.
        quiet_s: how long they are watched.
        missed: messages that are replayed.
        redis_url: a Redis to use instead of the embedded Valkey.
    """

    scenes: tuple[Scene, ...] = USUAL
    quick: bool = False
    runs: int = 3
    seconds: float = 5.0
    users: int = 1_000
    crowd: int = 10_000
    quiet_s: float = 30.0
    missed: int = 50_000
    redis_url: str | None = None


QUICK: Final = Wishes(scenes=("lanes",), quick=True, seconds=1.0, missed=10_000)
