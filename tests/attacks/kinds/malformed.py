"""Frames that break RFC 6455, each breach in turn, from clients that were let in."""

from __future__ import annotations

from itertools import cycle
from typing import Final

import anyio

from tests.attacks.target import Attack, Target
from tests.integration.hostile.test_wire import BROKEN

A_SECOND: Final = 150


async def run(target: Target, until: anyio.Event) -> None:
    """Come in and break a rule, again and again."""
    rows = cycle(BROKEN)

    async def one() -> None:
        peer = await target.guest()
        if peer is not None:
            with peer:
                await peer.say(next(rows).sent * 20)
                target.note(await peer.ending())

    await target.flood(A_SECOND, one, until)


ATTACK: Final = Attack(
    name="malformed",
    about=f"{A_SECOND} a second come in and break a rule of RFC 6455, each of {len(BROKEN)} in turn",
    limits=("handshakes_address_s_max", "frame_max_bytes"),
    run=run,
    codes=frozenset({"1002", "1007", "4001", "4005", "4007", "4504", "4505"}),
    counted=('pushway_closes_total{code="1002"}',),
    memory_mib=16.0,
    because="sessions that end with their first frame",
)
