"""A producer that appends what breaks the rules, among messages of the honest: forged lines, long ids, bodies hard to read."""

from __future__ import annotations

import json
from itertools import cycle
from typing import Final

import anyio

from tests.attacks.target import Attack, Target, beats

A_SECOND: Final = 300

_HARD: Final = ",".join(["2.2250738585072011e-308"] * 2_500)

ENTRIES: Final = (
    {"to": 'user:a\nuser:b - - - {"type":"message"}', "text": "forged"},
    {"to": "user:" + "x" * 50_000, "text": "long"},
    {"to": "," * 50_000, "text": "commas"},
    {"to": "user:x," * 5_000, "text": "the same again"},
    {"to": "user:x", "body": "[" * 60_000},
    {"to": "user:x", "body": f"[{_HARD}"},
    {"to": "user:x", "text": "y" * 200_000},
    {"to": "user:x", "text": "many"} | {f"x-{n}": "1" for n in range(1_000)},
    {"to": '{"$gt":""}', "body": '{"$where":"sleep(1000)"}'},
    {"nobody": "z" * 100_000},
    {"to": "user:x", "text": "expired", "ttl": "0"},
)


async def run(target: Target, until: anyio.Event) -> None:
    """Append, and listen meanwhile for anything that was forged."""
    entries = cycle(ENTRIES)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_listen, target)
        async for due in beats(target.many(A_SECOND), until):
            for _ in range(due):
                target.seen["entries"] += 1
                await target.append(next(entries))
        tasks.cancel_scope.cancel()


async def _listen(target: Target) -> None:
    peer = await target.guest()
    if peer is None:
        return
    with peer:
        while (heard := await peer.hear()) is not None:
            if json.loads(heard[1] or b"{}").get("type") == "message":
                target.got_in("a forged message")


ATTACK: Final = Attack(
    name="hostile-producer",
    about=f"{A_SECOND} entries a second on `in` that break a rule, up to 200 KB each",
    limits=("body_max_bytes", "dead_max", "dead_max_bytes"),
    run=run,
    codes=frozenset(),
    counted=("pushway_delivered_total",),
    memory_mib=16.0,
    because="none of it reaches an edge",
)
