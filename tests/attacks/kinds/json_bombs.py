"""JSON that costs, or means different things to different readers: depth, huge numbers, NaN, members twice; at each door."""

from __future__ import annotations

from itertools import cycle
from typing import Final

import anyio

from tests.attacks.peer import TEXT, frame
from tests.attacks.target import Attack, Target

A_SECOND: Final = 60
"""At each of three doors."""

VALUES: Final = (
    b"[" * 30_000,
    b'{"a":' * 10_000,
    b"[" * 30_000 + b"]" * 30_000,
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 60_000,
    b"1" + b"0" * 400 + b".5e-400",
    b'"\\ud800"',
    b'"' + b"\\u0000" * 9_000 + b'"',
    b"{" + b",".join(b'"k%d":0' % n for n in range(5_000)) + b"}",
)

USER: Final = "bombed"


def _frame(value: bytes) -> bytes:
    return frame(TEXT, b'{"type":"ack","seq":' + value + b"}")


async def run(target: Target, until: anyio.Event) -> None:
    """Send each to all doors; a number that is none, at whoever listens, got in."""
    to_edge, to_api, to_in = cycle(VALUES), cycle(VALUES), cycle(VALUES)
    dead = await target.doors.dead()

    async def say() -> None:
        peer = await target.guest()
        if peer is not None:
            with peer:
                await peer.say(_frame(next(to_edge)))
                target.note(await peer.ending())

    async def append() -> None:
        await target.append({"to": f"topic:{USER}", "body": next(to_in).decode(), "transient": "1"})

    async with target.api() as http:

        async def request() -> None:
            body = b'{"to":' + next(to_api) + b',"text":"x"}'
            answer = await http.post("/v1/messages", content=body)
            target.seen[f"API {answer.status_code}"] += 1
            if answer.is_success:
                target.got_in(f"an append of {body[:40]!r}")

        async with anyio.create_task_group() as doors:
            for door in (say, append, request):
                doors.start_soon(target.flood, A_SECOND, door, until)
    target.seen["dead letters"] += await target.doors.dead() - dead


ATTACK: Final = Attack(
    name="json-bombs",
    about=f"{A_SECOND} a second at each of `in`, the API and the edge: 30,000 deep, numbers of 60 KB, NaN, 5,000 members",
    limits=("body_max_bytes", "frame_max_bytes"),
    run=run,
    codes=frozenset({"4001", "4005", "4007", "4504", "4505"}),
    counted=('pushway_closes_total{code="4504"}',),
    memory_mib=16.0,
    because="frames of 64 KiB that are looked at once",
    reached=("API 400", "4504", "dead letters"),
)
