"""Guests who ask for everything that a topic retains, and read none of it."""

from __future__ import annotations

import json
from typing import Final

import anyio

from tests.attacks.target import Attack, Target

AT_A_TIME: Final = 200
STORED: Final = 200
BODY_BYTES: Final = 30_000
_RECEIVE_BYTES: Final = 4_096
_AFTER_S: Final = 5.0


async def store(target: Target) -> None:
    """Have so much retained. Who attacks an edge cannot do that, so it is there before."""
    body = json.dumps("x" * BODY_BYTES)
    for _ in range(target.many(STORED)):
        await target.append({"to": f"topic:{target.own}", "body": body})


async def run(target: Target, until: anyio.Event) -> None:
    """Keep so many who have missed all of it and do not read."""
    query = f"?topics={target.own}&since=topic:{target.own}:0"

    async def one() -> None:
        guest = await target.guest(query, receive_bytes=_RECEIVE_BYTES)
        if guest is not None:
            with guest:
                with anyio.move_on_after(_AFTER_S):
                    await until.wait()
                target.seen["gave up"] += 1

    await target.hold(AT_A_TIME, one, until)


ATTACK: Final = Attack(
    name="slow-replays",
    about=f"{AT_A_TIME} who ask for {STORED} retained messages of 30 KB and read nothing, anew every 5 s",
    limits=("send_buffer_max_bytes", "connections_address_max"),
    run=run,
    codes=frozenset({"4001", "4002", "4005", "4007"}),
    counted=("pushway_replayed_total",),
    memory_mib=250.0,
    because="a send buffer of 1 MiB each, and a fifth for the allocator",
    prepare=store,
)
