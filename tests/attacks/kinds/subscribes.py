"""Guests who subscribe and unsubscribe as fast as they may, to topics that nobody else hears."""

from __future__ import annotations

import json
from itertools import count
from typing import Final
from uuid import uuid4

import anyio

from tests.attacks.peer import TEXT, frame
from tests.attacks.target import Attack, Target

AT_A_TIME: Final = 20
A_SECOND: Final = 150
"""Frames of each guest: below `frames_s_max`, so that nobody stops it."""

_BEAT_S: Final = 0.1


def _frames(topics: list[str]) -> bytes:
    pairs = [{"type": kind, "topic": topic} for topic in topics for kind in ("subscribe", "unsubscribe")]
    return b"".join(frame(TEXT, json.dumps(each).encode()) for each in pairs)


async def run(target: Target, until: anyio.Event) -> None:
    """Keep so many guests subscribing."""
    mine, numbers = uuid4().hex, count()
    pairs = round(A_SECOND * _BEAT_S / 2)

    async def one() -> None:
        if (guest := await target.guest()) is not None:
            with guest:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(guest.ending)
                    while not until.is_set():
                        await guest.say(_frames([f"{mine}-{next(numbers)}" for _ in range(pairs)]))
                        await anyio.sleep(_BEAT_S)
                    tasks.cancel_scope.cancel()

    await target.hold(AT_A_TIME, one, until)


ATTACK: Final = Attack(
    name="subscribes",
    about=f"{AT_A_TIME} guests, each with {A_SECOND} frames a second: to a topic and away from it, each time another",
    limits=("frames_s_max", "subscriptions_session_max"),
    run=run,
    codes=frozenset({"4001", "4005"}),
    counted=("pushway_redis_seconds_count",),
    memory_mib=32.0,
    because="a topic that nobody hears is forgotten",
)
