"""Slow handshakes: a byte of the request a second, nothing at all, or an upgrade with no connect frame behind it."""

from __future__ import annotations

from itertools import cycle
from typing import Final

import anyio

from tests.attacks.peer import Peer, request
from tests.attacks.target import Attack, Target

AT_A_TIME: Final = 1_000


async def _drip(peer: Peer) -> None:
    for byte in request("localhost"):
        await peer.say(bytes((byte,)))
        await anyio.sleep(1)


async def _say_nothing(peer: Peer) -> None:
    del peer


async def _upgrade(peer: Peer) -> None:
    await peer.upgrade()


WAYS: Final = (_drip, _say_nothing, _upgrade)


async def run(target: Target, until: anyio.Event) -> None:
    """Keep so many waiting, each in the next way."""
    ways = cycle(WAYS)

    async def one() -> None:
        with await target.peer() as peer:
            await next(ways)(peer)
            target.note(await peer.ending())

    await target.hold(AT_A_TIME, one, until)


ATTACK: Final = Attack(
    name="slow-handshakes",
    about=f"{AT_A_TIME:,} at a time: a byte of the request a second, nothing, or no connect frame",
    limits=("connect_timeout_s", "connections_address_max", "handshakes_address_s_max"),
    run=run,
    codes=frozenset({"4001", "4005", "4007", "4500"}),
    counted=("pushway_handshakes_failed_total", "pushway_closes_total"),
    memory_mib=32.0,
    because="1,000 connections of about 16 KiB, in which a handshake is begun",
)
