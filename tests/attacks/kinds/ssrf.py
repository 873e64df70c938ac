"""Addresses of the attacker's wherever a client can put one: headers of tokens, of requests, whole addresses, parameters."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import cycle
from typing import Final

import anyio

from tests.attacks.peer import request
from tests.attacks.target import Attack, Target
from tests.issuers import ED_KEY, jwk, payload, sign

A_SECOND: Final = 100
"""At each of two doors."""

_ANSWERED_S: Final = 0.5
_HEADERS: Final = ("X-Forwarded-For", "Forwarded", "X-Forwarded-Host", "X-Original-URL", "X-Callback-Url", "Referer", "Origin")


def _tokens(url: str) -> list[str]:
    """Return tokens that say where their key is."""
    own = json.loads(json.dumps(jwk(ED_KEY)))
    headers = ({"jku": url}, {"x5u": url}, {"kid": url}, {"iss": url}, {"jku": url, "jwk": own, "kid": "own"}, {"x5c": [url]})
    return [sign(payload(iss=url), ED_KEY, "EdDSA", **header) for header in headers]


def _requests(target: Target) -> list[Callable[[], bytes]]:
    """Return what makes an upgrade that names the trap, in one way each."""
    url = target.doors.trap_url
    host = url.removeprefix("http://").rstrip("/")
    named = "".join(f"{name}: {url}\r\n" for name in _HEADERS)
    good = request(host, token=None)
    return [
        *(lambda token=token: request("localhost", token=token) for token in _tokens(url)),
        lambda: request(host, token=target.token()),
        lambda: request("localhost", f"?device=d&callback={url}&jku={url}", target.token(), named),
        lambda: good.replace(b"GET /", f"GET {url}".encode(), 1),
        lambda: good.replace(b"GET /v1/connect", f"CONNECT {host}".encode(), 1),
        lambda: f"PROXY TCP4 {host.replace(':', ' ')} 1 2\r\n".encode() + good,
    ]


async def run(target: Target, until: anyio.Event) -> None:
    """Name the trap to the edge and to the API. The stand itself says whether anybody came."""
    requests = cycle(_requests(target))
    url = target.doors.trap_url
    bodies = cycle(
        [{"to": "user:nobody", "text": "x", name: url} for name in ("callback", "url", "webhook", "id", "traceparent")]
    )

    async def say() -> None:
        with await target.peer() as peer:
            await peer.say(next(requests)())
            # One who was upgraded is told why it is sent away, and then to close.
            with anyio.move_on_after(_ANSWERED_S):
                await peer.answers()
            target.seen["HTTP " + peer.said[9:12].decode() if peer.said else "cut"] += 1

    async with target.api() as http:

        async def post() -> None:
            headers = {"x-forwarded-host": url, "x-forwarded-for": url, "referer": url}
            answer = await http.post("/v1/messages", json=next(bodies), headers=headers)
            target.seen[f"API {answer.status_code}"] += 1

        async with anyio.create_task_group() as doors:
            for door in (say, post):
                doors.start_soon(target.flood, A_SECOND, door, until)


ATTACK: Final = Attack(
    name="ssrf",
    about=f"{A_SECOND} a second at each of API and edge that name an address: `jku`, `x5u`, `Forwarded`, whole addresses",
    limits=("handshakes_address_s_max",),
    run=run,
    codes=frozenset({"4001", "4005", "4007", "4500", "4501"}),
    counted=("pushway_tokens_checked_total", "pushway_closes_total", "pushway_handshakes_failed_total"),
    memory_mib=16.0,
    because="nothing is kept of a token that was refused, but the names of 1,000 unknown keys",
    reached=("HTTP 101", "HTTP 400", "API 400"),
)
