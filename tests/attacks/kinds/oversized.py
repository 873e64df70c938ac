"""Frames and messages that are too large: announced, sent, and added up from fragments."""

from __future__ import annotations

from itertools import cycle
from typing import Final

import anyio

from tests.attacks.peer import CONT, TEXT, Peer, frame
from tests.attacks.target import Attack, Target

A_SECOND: Final = 100

_PIECE: Final = b"x" * 60_000


async def _announced(peer: Peer) -> None:
    await peer.say(frame(TEXT, b"{", length=2**40))


async def _sent(peer: Peer) -> None:
    await peer.say(frame(TEXT, _PIECE * 10))


async def _added_up(peer: Peer) -> None:
    await peer.say(frame(TEXT, _PIECE, bits=0) + frame(CONT, _PIECE, bits=0) + frame(CONT, _PIECE))


WAYS: Final = (_announced, _sent, _added_up)


async def run(target: Target, until: anyio.Event) -> None:
    """Send too much at once, each in the next way, before any token."""
    ways = cycle(WAYS)

    async def one() -> None:
        with await target.peer() as peer:
            if await peer.upgrade():
                await next(ways)(peer)
            target.note(await peer.ending())

    await target.flood(A_SECOND, one, until)


ATTACK: Final = Attack(
    name="oversized",
    about=f"{A_SECOND} connects a second, and a frame of a terabyte, of 600 KB, or fragments of 180 KB",
    limits=("frame_max_bytes", "handshakes_address_s_max"),
    run=run,
    codes=frozenset({"4001", "4005", "4007", "4505"}),
    counted=('pushway_closes_total{code="4505"}',),
    memory_mib=32.0,
    because="64 KiB of a frame and what one read takes, of those that are open at a time",
)
