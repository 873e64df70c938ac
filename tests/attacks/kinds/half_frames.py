"""Frames that never become whole: all but the last byte of the largest that is allowed, before any token."""

from __future__ import annotations

from typing import Final

import anyio

from tests.attacks.peer import TEXT, frame
from tests.attacks.target import Attack, Target

AT_A_TIME: Final = 500
LENGTH: Final = 65_536


async def run(target: Target, until: anyio.Event) -> None:
    """Keep so many frames unfinished."""

    async def one() -> None:
        with await target.peer() as peer:
            if await peer.upgrade():
                await peer.say(frame(TEXT, b"x" * (LENGTH - 1), length=LENGTH))
            target.note(await peer.ending())

    await target.hold(AT_A_TIME, one, until)


ATTACK: Final = Attack(
    name="half-frames",
    about=f"{AT_A_TIME} at a time: all but a byte of a frame of 64 KiB, before any token",
    limits=("frame_max_bytes", "connect_timeout_s", "connections_address_max"),
    run=run,
    codes=frozenset({"4001", "4005", "4007", "4500"}),
    counted=("pushway_closes_total",),
    memory_mib=80.0,
    because="500 frames of 64 KiB, in buffers that grow by an eighth at a time, and the connections",
)
