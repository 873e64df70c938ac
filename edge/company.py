"""Waiting for company: who comes in the same rush shares one call.

Whatever is asked while a call is on its way makes up the next one. When a thousand clients come at once the edge itself is what
holds them up, answers are back within a turn or two of its event loop, and calls would carry a handful each; yet a call costs
an edge as much as ten or twenty who share it. So before a call is made the loop gets a turn. A single client costs one that
brings nobody. Where it has brought somebody there is a rush, which is given some time, for as long as that brings more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio

_WAIT_S: Final = 0.002
"""How long those who come in a rush wait for the next ones: as long as some handshakes take the edge, and nobody notices."""

_WAITS_MAX: Final = 16
"""Most waits: a rush that does not end is served meanwhile."""


async def gathered(count: Callable[[], int], most: int) -> None:
    """Return when nobody has come while others waited, or there are `most`.

    Args:
        count: tells how many there are.
        most: how many fit into a call.
    """
    before = count()
    if before >= most:
        return
    await anyio.lowlevel.checkpoint()
    for _ in range(_WAITS_MAX):
        if not before < (before := count()) < most:
            return
        await anyio.sleep(_WAIT_S)
