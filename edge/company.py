"""Waiting for company, without a timer: who comes in the same rush shares one call.

Whatever is asked while a call is on its way makes up the next one. When a thousand clients come at once the edge itself is what
holds them up, answers are back within a turn or two of its event loop, and calls would carry a handful each. So before a call
is made the loop gets its turns for as long as each turn brings somebody: a single client costs one that brings nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio

_TURNS_MAX: Final = 16
"""Most turns waited for: a rush that does not end is served meanwhile. A turn takes as long as reading what has come."""


async def gathered(count: Callable[[], int], most: int) -> None:
    """Return when a turn of the event loop has brought nobody, or there are `most`.

    Args:
        count: tells how many there are.
        most: how many fit into a call.
    """
    before = -1
    for _ in range(_TURNS_MAX):
        now = count()
        if not before < now < most:
            return
        before = now
        await anyio.lowlevel.checkpoint()
