"""Sending everybody away, not all at once: whoever leaves comes back through another edge."""

from __future__ import annotations

import math
import random
from typing import Final

import anyio
import structlog

from edge.admission import Admission
from router.settings import Settings

log = structlog.get_logger(__name__)

STEP_S: Final = 0.02
"""Shortest pause between two farewells, or two groups of them. Fewer sessions than fit the time leave faster than it."""


def group_size(count: int, over_s: float) -> int:
    """Return how many of `count` sessions to send away at each step, so that all are gone within `over_s`."""
    steps = max(1, int(over_s / STEP_S))
    return max(1, math.ceil(count / steps))


async def drain(admission: Admission, settings: Settings) -> None:
    """Close every connection, spread over `drain_timeout_s`; those that do not answer are cut after `close_timeout_s`.

    Messages go on to those that still wait for their turn.
    """
    leaving = list(admission.connections)
    size = group_size(len(leaving), settings.drain_timeout_s)
    log.info("drain_began", connections=len(leaving))
    for at in range(0, len(leaving), size):
        for connection in leaving[at : at + size]:
            connection.drain(_retry_after_ms(settings))
        await anyio.sleep(STEP_S)
    with anyio.move_on_after(settings.close_timeout_s):
        await admission.emptied()
    admission.cut_all()
    log.info("drain_ended")


def _retry_after_ms(settings: Settings) -> int:
    return random.randint(0, settings.backoff_max_ms)  # noqa: S311 - spreads load, guards nothing
