"""One look at every connection in turn, in place of a timer for each."""

from __future__ import annotations

import time
from collections.abc import Collection
from itertools import islice
from typing import Final

import anyio

from edge.connection import Connection
from edge.liveness import Pulse, look_every_s
from router.settings import Settings

_SLICE: Final = 500
"""Connections looked at before the event loop gets its turn: well under a millisecond."""


async def sweep(connections: Collection[Connection], settings: Settings) -> None:
    """Ping the quiet, close the silent and end what takes too long, until cancelled."""
    pulse = Pulse(settings.heartbeat_s, settings.heartbeat_timeout_s)
    every_s = look_every_s(settings)
    while True:
        await anyio.sleep(every_s)
        looked_at = iter(list(connections))
        while some := list(islice(looked_at, _SLICE)):
            now_s = time.monotonic()
            for connection in some:
                if connection in connections:  # others have their turn between slices, and some of these may be gone
                    connection.sweep(now_s, pulse)
            await anyio.lowlevel.checkpoint()
