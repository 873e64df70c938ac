"""Guests who subscribe to a topic of large messages and read none of them."""

from __future__ import annotations

import json
from typing import Final
from uuid import uuid4

import anyio

from tests.attacks.peer import TEXT, frame
from tests.attacks.target import Attack, Target

AT_A_TIME: Final = 1_000
A_SECOND: Final = 40
BODY_BYTES: Final = 60_000
_RECEIVE_BYTES: Final = 4_096


async def run(target: Target, until: anyio.Event) -> None:
    """Keep so many who do not read, and send to them."""
    topic = f"slow-{uuid4().hex}"
    body = json.dumps("x" * BODY_BYTES)

    async def one() -> None:
        guest = await target.guest(receive_bytes=_RECEIVE_BYTES)
        if guest is None:
            return
        with guest:
            await guest.say(frame(TEXT, json.dumps({"type": "subscribe", "topic": topic}).encode()))
            target.note(await guest.cut_off(until))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(target.hold, AT_A_TIME, one, until)
        while not until.is_set():
            await target.append({"to": f"topic:{topic}", "body": body, "transient": "1"})
            await anyio.sleep(1 / A_SECOND)


ATTACK: Final = Attack(
    name="slow-readers",
    about=f"{AT_A_TIME:,} subscribers of a topic with {A_SECOND} messages of 60 KB a second, who read nothing",
    limits=("send_buffer_soft_bytes", "send_buffer_soft_s", "send_buffer_max_bytes", "close_timeout_s"),
    run=run,
    codes=frozenset({"4001", "4002", "4005", "4007"}),
    counted=('pushway_closes_total{code="4002"}',),
    memory_mib=250.0,
    because="what waits of a topic stands in memory once for all of them, but for what each has of its first frame",
    seconds_min=5.0,
)
