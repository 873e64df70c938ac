"""How much a client says, held to the limits a connection: frames and bytes in windows of ten seconds. Pure.

Three numbers a connection: a bucket for each of ten thousand quiet clients would be megabytes.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

WINDOW_S: Final = 10
"""How long is counted what a client says. A client may say all of it at once."""


class Taken(NamedTuple):
    """What came in one window.

    Attributes:
        window: its number since the clock began.
        frames: whole frames.
        size: bytes.
    """

    window: int
    frames: int
    size: int

    def in_words(self) -> str:
        """Return what a client is told of it."""
        return f"{self.frames} frames and {self.size} bytes in {WINDOW_S} seconds"


NOTHING: Final = Taken(0, 0, 0)


def counted(taken: Taken, now_s: float, frames: int, size: int) -> Taken:
    """Return what came in the present window, with what came just now."""
    window = int(now_s // WINDOW_S)
    if taken.window == window:
        frames, size = frames + taken.frames, size + taken.size
    return Taken(window, frames, size)


def is_too_fast(taken: Taken, frames_s_max: int, bytes_s_max: int) -> bool:
    """Tell whether it is more than a client may say in a window; a limit of 0 is none."""
    return taken.frames > (frames_s_max or math.inf) * WINDOW_S or taken.size > (bytes_s_max or math.inf) * WINDOW_S
