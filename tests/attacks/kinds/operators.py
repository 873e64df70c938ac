"""What MongoDB would take for operators, in the place of values that reach a query: at the API and in frames."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import cycle
from typing import Any, Final

import anyio

from tests.attacks.peer import TEXT, frame
from tests.attacks.target import Attack, Target

A_SECOND: Final = 100
"""At each of two doors."""

VALUES: Final[tuple[Any, ...]] = (
    {"$gt": ""},
    {"$ne": None},
    {"$where": "sleep(1000)"},
    [{"$regex": ".*"}],
    {"$function": {"body": "while(1){}", "args": [], "lang": "js"}},
)

QUERIES: Final = ("after[$gt]=0", "limit[$ne]=1", "after=%7B%22%24gt%22%3A0%7D", "after=$where", "limit[$where]=sleep(1000)")


def _requests() -> Iterator[tuple[str, str, bytes]]:
    """Yield, for ever, method, path and body of what the API may not take."""
    for value in cycle(VALUES):
        for name in ("to", "text", "id", "collapse", "exclude", "ttl", "at"):
            said = {"to": "user:nobody", "text": "x"} | {name: value}
            yield "POST", "/v1/messages", json.dumps(said).encode()
        yield "POST", "/v1/presence", json.dumps({"users": [value]}).encode()
        yield "POST", "/v1/messages", json.dumps(value).encode()
        for query in QUERIES:
            yield "GET", f"/v1/users/honest-0/messages?{query}", b""


def _frames() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield, for ever, a query of the address and a frame: values for ids and seqs; devices that read like operators."""
    for value in cycle(VALUES):
        yield "", {"type": "ack", "seq": value}
        yield "", {"type": "ack", "seq": 1, "to": value}
        yield "", {"type": "subscribe", "topic": value}
        yield "", {"type": "subscribe", "topic": "news", "since": value}
        yield "?device=$where", {"type": "ack", "seq": 1}
        yield "?device=$where&since=topic:$gt:0&topics=$gt", {"type": "unsubscribe", "topic": value}


async def run(target: Target, until: anyio.Event) -> None:
    """Try both doors; what comes of another user's messages got in."""
    requests, frames = _requests(), _frames()

    async def say() -> None:
        query, said = next(frames)
        peer = await target.guest(query)
        if peer is not None:
            with peer:
                await peer.say(frame(TEXT, json.dumps(said).encode()) + frame(TEXT, b"{}"))
                target.note(await peer.ending(heard=judge))

    def judge(said: dict[str, Any]) -> None:
        if said["type"] == "message":
            target.got_in("a message")

    async with target.api() as http:

        async def request() -> None:
            method, path, body = next(requests)
            answer = await http.request(method, path, content=body or None)
            target.seen[f"API {answer.status_code}"] += 1
            # A parameter that there is not is passed over, and the question is answered as it stands.
            if answer.is_success and method != "GET":
                target.got_in(f"{method} {path} {body!r}")

        async with anyio.create_task_group() as doors:
            for door in (say, request):
                doors.start_soon(target.flood, A_SECOND, door, until)


ATTACK: Final = Attack(
    name="operators",
    about=f"{A_SECOND} a second at each of the API and the edge with operators of MongoDB for ids, seqs, cursors and devices",
    limits=("handshakes_address_s_max",),
    run=run,
    codes=frozenset({"4001", "4005", "4007", "4502", "4504"}),
    counted=('pushway_closes_total{code="4504"}',),
    memory_mib=16.0,
    because="sessions that end with their first frames",
    reached=("API 400", "4504"),
)
