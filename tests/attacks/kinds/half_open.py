"""Guests who come in and are never heard of again: no pong, no reading, no farewell."""

from __future__ import annotations

from typing import Final

import anyio

from tests.attacks.target import Attack, Target

AT_A_TIME: Final = 1_000
_RECEIVE_BYTES: Final = 4_096


async def run(target: Target, until: anyio.Event) -> None:
    """Keep so many that do nothing."""

    async def one() -> None:
        if (guest := await target.guest(receive_bytes=_RECEIVE_BYTES)) is not None:
            with guest:
                target.seen["welcomed"] += 1
                await until.wait()

    await target.hold(AT_A_TIME, one, until)


ATTACK: Final = Attack(
    name="half-open",
    about=f"{AT_A_TIME:,} sessions that neither read nor answer a ping",
    limits=("heartbeat_s", "heartbeat_timeout_s", "connections_address_max"),
    run=run,
    codes=frozenset({"4001", "4004", "4005", "4007"}),
    counted=("pushway_tokens_checked_total", "pushway_closes_total"),
    memory_mib=48.0,
    because="1,000 sessions with what their handshakes left in the allocator",
)
