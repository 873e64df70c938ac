"""Requests that go on: header after header, each as long as a line may be, and no end."""

from __future__ import annotations

from typing import Final

import anyio

from tests.attacks.peer import request
from tests.attacks.target import Attack, Target

AT_A_TIME: Final = 500
HEADERS: Final = 120

_LINE: Final = b"X-Fat: " + b"f" * 8_000 + b"\r\n"


async def run(target: Target, until: anyio.Event) -> None:
    """Keep so many requests open."""

    async def one() -> None:
        with await target.peer() as peer:
            await peer.say(request("localhost")[:-2])
            for _ in range(HEADERS):
                await peer.say(_LINE)
            target.note(await peer.answer())

    await target.hold(AT_A_TIME, one, until)


ATTACK: Final = Attack(
    name="fat-handshakes",
    about=f"{AT_A_TIME:,} at a time: a request of {HEADERS} headers of 8 KB, which does not end",
    limits=("handshake_max_bytes", "connect_timeout_s", "connections_address_max"),
    run=run,
    codes=frozenset({"4001", "4005", "4007"}),
    counted=("pushway_handshakes_failed_total",),
    memory_mib=32.0,
    because="500 requests of 16 KiB at most",
)
