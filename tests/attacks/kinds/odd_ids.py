"""What is no id, at every door where one is taken: separators, line ends, braces and quotes in users, topics, devices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import cycle
from typing import Any, Final
from urllib.parse import quote

import anyio

from tests.attacks.peer import TEXT, frame
from tests.attacks.target import Attack, Target
from tests.integration.hostile.test_ids import BAD, PATHS

A_SECOND: Final = 80
"""At each of four doors."""

VICTIMS: Final = ("a", "bob")
"""Whom an id that is split somewhere would name."""

_STRINGS: Final = ("to", "id", "collapse", "exclude")


def _entries() -> Iterator[dict[str, str]]:
    """Yield, for ever, what a producer may not append."""
    for bad in cycle(BAD.values()):
        yield {"to": f"user:{bad}", "text": "injected"}
        yield {"to": f"topic:{bad}", "text": "injected"}
        yield {"to": f"user:{bad},user:{bad}", "text": "injected"}
        yield {"to": f"user:nobody,{bad}", "text": "injected"}


def _requests() -> Iterator[tuple[str, str, bytes]]:
    """Yield, for ever, what the API may not take: method, path and body."""
    for bad in cycle(BAD.values()):
        for method, path in PATHS:
            yield method, path % quote(bad, safe=""), b""
        for said in ({"to": f"user:{bad}"}, {"id": bad}, {"collapse": bad}, {"exclude": f"session:{bad}"}):
            yield "POST", "/v1/messages", json.dumps({"to": "user:nobody", "text": "injected"} | said).encode()


def _frames() -> Iterator[dict[str, Any]]:
    """Yield, for ever, what a client may not say."""
    for bad in cycle(BAD.values()):
        yield {"type": "subscribe", "topic": bad}
        yield {"type": "unsubscribe", "topic": bad}
        yield {"type": "connect", "device": bad}
        yield {"type": "connect", "topics": ["news", bad]}
        yield {"type": "connect", "since": {f"topic:{bad}": 1}}


async def run(target: Target, until: anyio.Event) -> None:
    """Try each door, and be those whom one of it would reach."""
    dead = await target.doors.dead()
    entries, fast, requests, frames = _entries(), _entries(), _requests(), _frames()

    async def append() -> None:
        await target.append(next(entries))

    async def append_fast() -> None:
        await target.doors.append_fast(next(fast))

    async def say() -> None:
        await _say(target, next(frames))

    async with target.api() as http, anyio.create_task_group() as tasks:

        async def request() -> None:
            method, path, body = next(requests)
            answer = await http.request(method, path, content=body or None)
            target.seen[f"API {answer.status_code}"] += 1
            if answer.is_success:
                target.got_in(f"{method} {path}")

        for victim in VICTIMS:
            tasks.start_soon(target.listen, victim)
        async with anyio.create_task_group() as doors:
            for door in (append, append_fast, request, say):
                doors.start_soon(target.flood, A_SECOND, door, until)
        tasks.cancel_scope.cancel()
    target.seen["dead letters"] += await target.doors.dead() - dead


async def _say(target: Target, said: dict[str, Any]) -> None:
    first = said["type"] == "connect"
    peer = await target.peer() if first else await target.guest()
    if peer is None:
        return
    with peer:
        if first:
            await peer.upgrade()
            said = said | {"token": target.token()}
        await peer.say(frame(TEXT, json.dumps(said).encode()))
        target.note(await peer.ending())


ATTACK: Final = Attack(
    name="odd-ids",
    about=f"{A_SECOND} a second at each of `in`, `fast`, the API and the edge with what is no id, in {len(BAD)} ways",
    limits=("handshakes_address_s_max", "dead_max", "body_max_bytes"),
    run=run,
    codes=frozenset({"4001", "4005", "4007", "4504"}),
    counted=('pushway_closes_total{code="4504"}',),
    memory_mib=16.0,
    because="sessions that end with their first frame",
    reached=("API 400", "4504", "dead letters", "listeners"),
)
