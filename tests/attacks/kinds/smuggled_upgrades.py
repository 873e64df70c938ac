"""Upgrades that two readers could understand differently, with a good one behind each, which nobody may read as one."""

from __future__ import annotations

from itertools import cycle
from typing import Final

import anyio

from tests.attacks.target import Attack, Target
from tests.integration.hostile.test_upgrade import GOOD, REFUSED

A_SECOND: Final = 150

_UPGRADED: Final = b"HTTP/1.1 101 "


async def run(target: Target, until: anyio.Event) -> None:
    """Send one row after the other, each on a connection of its own."""
    rows = cycle(REFUSED)

    async def one() -> None:
        row = next(rows)
        with await target.peer() as peer:
            await peer.say(row.sent + GOOD)
            peer.finish()
            said = await peer.answers()
        if _UPGRADED in said:
            target.got_in(f"an upgrade behind {row.what}")
        target.seen["HTTP " + said[9:12].decode() if said else "cut"] += 1

    await target.flood(A_SECOND, one, until)


ATTACK: Final = Attack(
    name="smuggled-upgrades",
    about=f"{A_SECOND} upgrades a second that can be read in two ways, each of {len(REFUSED)} in turn, with a good one behind",
    limits=("handshakes_address_s_max", "handshake_max_bytes"),
    run=run,
    codes=frozenset({"4001", "4005", "4007"}),
    counted=("pushway_handshakes_failed_total",),
    memory_mib=16.0,
    because="connections that end with their first read",
    reached=("HTTP 400", "cut"),
)
