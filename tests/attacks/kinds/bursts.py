"""Bursts of connects: hundreds of requests that wait at once, each with a good token, so that one look finds all of them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

import anyio

from tests.attacks.target import Attack, Target

AT_ONCE: Final = 500
EVERY_S: Final = 1.0


async def _burst(target: Target) -> None:
    with ExitStack() as closing:
        peers = [closing.enter_context(await target.peer()) for _ in range(target.many(AT_ONCE))]
        async with anyio.create_task_group() as tasks:
            for peer in peers:
                tasks.start_soon(peer.ask, target.token())
        await anyio.sleep(EVERY_S)


async def run(target: Target, until: anyio.Event) -> None:
    """Connect, then ask all at once, then be gone."""
    while not until.is_set():
        await _burst(target)


ATTACK: Final = Attack(
    name="bursts",
    about=f"{AT_ONCE} connects with good tokens, whose requests are sent at once, every {EVERY_S:g} s",
    limits=("handshakes_address_s_max", "handshakes_s_max"),
    run=run,
    codes=frozenset({"4001", "4005", "4007"}),
    counted=("pushway_tokens_checked_total", "pushway_closes_total"),
    memory_mib=32.0,
    because="500 sessions and requests of 16 KiB at most",
    seconds_min=2.0,
)
