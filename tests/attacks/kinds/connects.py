"""A flood of connects: each upgrades, comes in with a good token, and leaves without a word."""

from __future__ import annotations

from typing import Final

import anyio

from tests.attacks.target import Attack, Target

A_SECOND: Final = 500


async def run(target: Target, until: anyio.Event) -> None:
    """Connect and leave, again and again."""

    async def one() -> None:
        if (guest := await target.guest()) is not None:
            guest.close(reset=True)
            target.seen["welcomed"] += 1

    await target.flood(A_SECOND, one, until)


ATTACK: Final = Attack(
    name="connects",
    about=f"{A_SECOND} connects a second with good tokens, each reset after its welcome",
    limits=("handshakes_address_s_max", "handshakes_s_max", "connections_address_max"),
    run=run,
    codes=frozenset({"4001", "4005", "4007"}),
    counted=("pushway_closes_total", "pushway_tokens_checked_total"),
    memory_mib=32.0,
    because="the routes and sessions of those under way, of which each is gone when its socket is",
)
