"""What an edge counts of a chunk, once a chunk: the hot path itself knows nothing of clocks.

The age of one message is taken a chunk, of the first that a session got: the frame says when it was appended. What is replayed
is written elsewhere (`edge.catch_up`) and so never counts as live.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from edge.closes import Close
from edge.position import Outlet
from edge.subscriber import LOST, PROBE, REVOKED
from router.metrics import BATCH_SIZE, CLOSES, DELIVERED, LATENCY_SECONDS, RESUBSCRIBED

_APPENDED_AT: Final = b'"ts":'

_CHUNKS: Final = BATCH_SIZE.labels("edge")
_WRITTEN: Final = LATENCY_SECONDS.labels("appended_to_written")

for _close in Close:
    CLOSES.labels(_close.code)
for _reason in (LOST, PROBE, REVOKED):
    RESUBSCRIBED.labels(_reason)


def write_out(dirty: Sequence[Outlet]) -> None:
    """Write a chunk's frames to the sessions that get some of them, and count what was written.

    Args:
        dirty: those sessions; the first frame in each one's `out` is a message's.
    """
    if not dirty:
        return
    first = dirty[0].out[0]
    delivered = sum([outlet.flush() for outlet in dirty])
    DELIVERED.inc(delivered)
    _CHUNKS.observe(delivered)
    appended_ms = appended_ms_of(first)
    if appended_ms is not None:
        # The clocks are two, Redis' and ours; none is that far ahead that it makes a message come before it was sent.
        _WRITTEN.observe(max(0.0, time.time() - appended_ms / 1000))


def appended_ms_of(frame: bytes) -> int | None:
    """Return the Unix ms at which a frame's message was appended, or None where it does not say."""
    # What stands before it holds no quote of its own, so the first is the message's (`router.lines`).
    found = frame.find(_APPENDED_AT)
    digits = frame[found + len(_APPENDED_AT) : frame.find(b",", found)] if found >= 0 else b""
    return int(digits) if digits.isdigit() else None
