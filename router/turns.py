"""The rhythm of collect and dispatch: one turn after the other, and after any failure from the beginning.

The beginning is what was taken before and not acknowledged. Nothing of the failed turn is remembered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from router.errors import Fenced
from router.handover import Handover
from router.mongo_client import STORE_OUTAGE
from router.outage import Outages
from router.redis_client import OUTAGE
from router.streams import TAKEN_BEFORE


async def take_turns(turn: Callable[[str], Awaitable[str]], outages: Outages, handover: Handover | None = None) -> None:
    """Take turns until the lease turns out to be lost or the shard is asked for, then return.

    Args:
        turn: is told where to take from, `TAKEN_BEFORE` or `NEW`, and tells where the next turn is to take from.
        outages: paces the tries and says so once.
        handover: tells whether the shard is asked for; it may be between any two turns.
    """
    start = TAKEN_BEFORE
    try:
        while handover is None or not handover.asked:
            try:
                start = await turn(start)
                outages.over()
            except (*OUTAGE, *STORE_OUTAGE) as exc:
                start = TAKEN_BEFORE
                await outages.wait("mongo" if isinstance(exc, STORE_OUTAGE) else "redis", exc)
    except Fenced:
        return
    finally:
        # Whoever has lost the lease waits for nobody's server: the lease itself tells of an outage from here on.
        outages.forget()
