"""What is no WebSocket: TLS to a port that speaks none, noise, and other protocols' first words."""

from __future__ import annotations

import secrets
from itertools import cycle
from typing import Final

import anyio

from tests.attacks.target import Attack, Target

A_SECOND: Final = 300

_TLS_HELLO: Final = bytes.fromhex("16030100c8010000c40303") + bytes(189)
_SSH: Final = b"SSH-2.0-OpenSSH_9.2\r\n"
_HTTP_2: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_REDIS: Final = b"*1\r\n$4\r\nPING\r\n"
_SCANNER: Final = b"GET /.env HTTP/1.1\r\nHost: x\r\n\r\n"

WORDS: Final = (_TLS_HELLO, _SSH, _HTTP_2, _REDIS, _SCANNER, b"")


async def run(target: Target, until: anyio.Event) -> None:
    """Say something else each time; nothing stands for noise."""
    words = cycle(WORDS)

    async def one() -> None:
        with await target.peer() as peer:
            await peer.say(next(words) or secrets.token_bytes(20_000))
            target.note(await peer.answer())

    await target.flood(A_SECOND, one, until)


ATTACK: Final = Attack(
    name="garbage",
    about=f"{A_SECOND} connects a second that say TLS, SSH, HTTP/2, Redis, a scanner's request or noise",
    limits=("handshake_max_bytes", "connect_timeout_s"),
    run=run,
    codes=frozenset(),
    counted=("pushway_handshakes_failed_total",),
    memory_mib=16.0,
    because="the request line, of those that are open at a time",
)
