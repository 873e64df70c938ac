"""A broadcast to five thousand connections, some of which do not read: nobody waits for those."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, cast
from urllib.parse import urlsplit

import anyio
import pytest
from redis import Redis

from router.auth.keyfile import SigningKey, load_or_make
from router.auth.tokens import Claims, TokenRules, issue
from tests.stack import Stack

pytestmark = pytest.mark.anyio

PATIENCE_S: Final = 120.0
HEARERS: Final = 5_000
SLOW: Final = 20
AT_ONCE: Final = 64
"""Connections opened at a time."""

MISSED: Final = 96
"""Messages of 60,000 bytes that each of the slow has missed: more than the kernel keeps for a connection, so the edge waits."""

MESSAGES: Final = 100

_SHORT, _MEDIUM = 126, 127
"""RFC 6455, section 5.2: what stands in the place of a length that takes two, or eight, bytes more."""


class Hearer(asyncio.Protocol):
    """A connection that keeps the seqs of what comes. Made for thousands: it looks at frames no closer than it must.

    A slow one wants everything it has missed, and stops reading when it is welcome.
    """

    def __init__(self, host: str, token: str, *, slow: bool) -> None:
        wish = "?since=0" if slow else ""
        self._slow = slow
        self._head = f"GET /v1/connect{wish} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n".encode()
        self._rest = b""
        self._upgraded = False
        self.welcome = False
        self.closed = False
        self.heard: dict[str, list[int]] = {"all": [], "user": []}
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self.transport = cast(asyncio.Transport, transport)
        upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
        self.transport.write(self._head + upgrade + b"MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n")

    def connection_lost(self, _exc: Exception | None) -> None:
        """Note it."""
        self.closed = True

    def data_received(self, data: bytes) -> None:
        """Take the whole frames, and keep the rest."""
        self._rest += data
        if not self._upgraded:
            head, end, self._rest = self._rest.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self._upgraded = True
        at = 0
        while (frame := self._frame_at(at)) is not None:
            start, at = frame
            self._take(memoryview(self._rest)[start:at])
        self._rest = self._rest[at:]

    def _frame_at(self, at: int) -> tuple[int, int] | None:
        """Return where the payload of the frame at this place begins and ends; None when it is not whole."""
        data = self._rest
        if len(data) < at + 2:
            return None
        extra = {_SHORT: 2, _MEDIUM: 8}.get(data[at + 1], 0)
        start = at + 2 + extra
        end = start + (int.from_bytes(data[at + 2 : start]) if extra else data[at + 1])
        return (start, end) if len(data) >= end else None

    def _take(self, payload: memoryview) -> None:
        head = bytes(payload[:96])
        if head.startswith(b'{"type":"message"'):
            target = "all" if b'"to":"all"' in head else "user"
            self.heard[target].append(int(head.partition(b'"seq":')[2].partition(b",")[0]))
        elif head.startswith(b'{"type":"welcome"'):
            self.welcome = True
            if self._slow:
                self.transport.pause_reading()


@pytest.fixture(scope="module")
def hearers() -> int:
    """As many connections as are wanted, or as this process may have open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return HEARERS if hard == resource.RLIM_INFINITY else min(HEARERS, hard - 500)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with two edges."""
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


def _token(stack: Stack, key: SigningKey, user: str) -> str:
    """Return a token as auth would issue it; five thousand requests to auth would take longer than the test."""
    now_s = int(time.time())
    return issue(Claims(user, now_s + 3_600, (), user), key.private, key.kid, TokenRules.of(stack.settings), now_s)


async def _open(stack: Stack, key: SigningKey, number: int) -> Hearer:
    url = urlsplit(stack.edge_urls[number % 2])
    hearer = Hearer(url.netloc, _token(stack, key, f"hearer-{number}"), slow=number < SLOW)
    taken = socket.socket()
    taken.setblocking(False)
    if number < SLOW:
        # Whatever the machine's default is: what such a client has not read is to wait at the edge, not in its own kernel.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(taken, (url.hostname, url.port))
    await loop.create_connection(lambda: hearer, sock=taken)
    return hearer


async def _until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - most of it is told by other processes
            await anyio.sleep(0.02)


def _append(redis: Redis, target: str, bodies: list[str]) -> None:
    with redis.pipeline(transaction=False) as pipe:
        for body in bodies:
            pipe.xadd("push:{0}:in", {"to": target, "body": json.dumps(body)})
        pipe.execute()


def _all_welcome(hearers: list[Hearer]) -> bool:
    return all(hearer.welcome for hearer in hearers)


async def _all_of(stack: Stack, hearers: int) -> list[Hearer]:
    key = load_or_make(stack.settings.auth_key_file)
    opened: list[Hearer] = []
    for first in range(0, hearers, AT_ONCE):
        some = range(first, min(first + AT_ONCE, hearers))
        opened += await asyncio.gather(*(_open(stack, key, number) for number in some))
        await _until(partial(_all_welcome, opened[-AT_ONCE:]))
    return opened


async def test_nobody_waits_for_the_slow(stack: Stack, hearers: int) -> None:
    """Who reads has all of it in order while others read nothing; those lose nothing, and nobody is closed."""
    missed = [f"{turn}".ljust(60_000, ".") for turn in range(MISSED)]
    with stack.redis_client() as redis:
        for number in range(SLOW):
            await anyio.to_thread.run_sync(_append, redis, f"user:hearer-{number}", missed)
        await _until(lambda: stack["collect"].metric("pushway_accepted_total") >= SLOW * MISSED)
        opened = await _all_of(stack, hearers)
        slow, quick = opened[:SLOW], opened[SLOW:]
        await _until(lambda: sum(stack[edge].metric("pushway_replayed_total") for edge in ("edge-1", "edge-2")) >= SLOW)
        await anyio.to_thread.run_sync(_append, redis, "all", [f"to everybody {number}" for number in range(MESSAGES)])
    try:
        await _until(lambda: all(len(hearer.heard["all"]) >= MESSAGES for hearer in quick))
        assert all(len(hearer.heard["all"]) < MESSAGES for hearer in slow)
        expected = quick[0].heard["all"]
        assert expected == sorted(set(expected))
        assert len(expected) == MESSAGES
        assert all(hearer.heard["all"] == expected for hearer in quick)

        for hearer in slow:
            hearer.transport.resume_reading()
        await _until(lambda: all(len(one.heard["all"]) >= MESSAGES and len(one.heard["user"]) >= MISSED for one in slow))
        assert all(hearer.heard["all"] == expected for hearer in slow)
        assert all(hearer.heard["user"] == sorted(set(hearer.heard["user"])) for hearer in slow)
        assert all(len(hearer.heard["user"]) == MISSED for hearer in slow)
        assert not any(hearer.closed for hearer in opened)
    finally:
        for hearer in opened:
            hearer.transport.abort()
