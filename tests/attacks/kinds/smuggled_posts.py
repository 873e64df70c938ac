"""Requests to the API that two readers could understand differently, with somebody else's append behind each."""

from __future__ import annotations

import json
from itertools import cycle
from typing import Final

import anyio

from tests.attacks.target import Attack, Target
from tests.integration.hostile.test_http import REFUSED

A_SECOND: Final = 100

USER: Final = "smuggled"


def _append(api_key: str) -> bytes:
    """Return a good request: what a balancer would send next on the same connection, for somebody else."""
    body = json.dumps({"to": f"user:{USER}", "text": "x", "transient": True}).encode()
    return (
        f"POST /v1/messages HTTP/1.1\r\nHost: push.example\r\nAuthorization: Bearer {api_key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body


async def run(target: Target, until: anyio.Event) -> None:
    """Send one row after the other, and listen for what stood behind it."""
    rows, behind = cycle(REFUSED), _append(target.doors.api_key)

    async def one() -> None:
        row = next(rows)
        with await target.dial(target.doors.api_port) as peer:
            await peer.say(row.sent.replace(b"/v1/things", b"/v1/messages") + behind)
            peer.finish()
            said = await peer.answers()
        if b" 202 " in said:
            target.got_in(f"an append behind {row.what}")
        target.seen["API " + said[9:12].decode() if said else "API cut"] += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(target.listen, USER)
        await target.flood(A_SECOND, one, until)
        tasks.cancel_scope.cancel()


ATTACK: Final = Attack(
    name="smuggled-posts",
    about=f"{A_SECOND} requests a second to the API that can be read in two ways ({len(REFUSED)} of them), and an append",
    limits=("body_max_bytes",),
    run=run,
    codes=frozenset(),
    counted=("pushway_delivered_total",),
    memory_mib=16.0,
    because="none of it reaches an edge",
    reached=("API 400", "listeners"),
)
