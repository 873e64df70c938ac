"""What an attack is given, and what an attack is.

An attack is a module of `tests.attacks.kinds` with one `Attack` in it. It comes from addresses of the loopback network, never
from elsewhere and never to elsewhere, and at a bounded pace: its generator shares the machine with what it attacks, so the
pace is part of the figure.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import cycle
from typing import Any, Final
from uuid import uuid4

import anyio
import httpx

from tests.attacks.doors import Doors
from tests.attacks.peer import Ending, Peer

ONE: Final = ("127.0.2.1",)
"""Where an attack from one address comes from; the honest have others."""

MANY: Final = tuple(f"127.0.{net}.{host}" for net in range(3, 7) for host in range(1, 251))
"""Where one from a thousand addresses does."""

GOT_IN: Final = "got in: "
"""How what an attacker has seen begins, where it is what nobody must be able to do."""

_BEAT_S: Final = 0.01
_AT_ONCE: Final = 512
_API_TIMEOUT_S: Final = 10


class NotLoopback(ValueError):
    """An attack on another machine was asked for; there is none."""


@dataclass
class Target:
    """The edge under attack.

    Args:
        host: its address, which is of the loopback network.
        port: its port.
        tokens: good ones, of users that the attacker may be; the honest are others.
        sources: the addresses that the attack comes from, in turn.
        doors: what else of Pushway an attacker reaches.
        scale: how large the attack is to be, 1 being what the script does; tests make it smaller.

    Attributes:
        seen: what came of the connections, as the attacker sees it.
        own: a name that nobody else has.

    Raises:
        NotLoopback: for a host on another machine.
    """

    host: str
    port: int
    tokens: Sequence[str]
    doors: Doors
    sources: Sequence[str] = ONE
    scale: float = 1.0
    seen: Counter[str] = field(default_factory=Counter)
    own: str = field(default_factory=lambda: uuid4().hex)

    def __post_init__(self) -> None:
        if not ip_address(self.host).is_loopback:
            raise NotLoopback(f"{self.host} is not this machine")
        self._from: Iterator[str] = cycle(self.sources)
        self._tokens: Iterator[str] = cycle(self.tokens)

    def many(self, count: int) -> int:
        """Return so many, scaled."""
        return max(1, round(count * self.scale))

    def token(self) -> str:
        """Return the next good token."""
        return next(self._tokens)

    async def append(self, fields: Mapping[str, str]) -> None:
        """Append an entry to `in`, as a producer would whose messages an attacker may hear."""
        await self.doors.append(fields)

    @asynccontextmanager
    async def api(self) -> AsyncIterator[httpx.AsyncClient]:
        """Yield a client of the API, with a good key, from the next address."""
        transport = httpx.AsyncHTTPTransport(local_address=next(self._from))
        headers = {"authorization": f"Bearer {self.doors.api_key}", "content-type": "application/json"}
        url = f"http://{self.host}:{self.doors.api_port}"
        async with httpx.AsyncClient(transport=transport, base_url=url, headers=headers, timeout=_API_TIMEOUT_S) as http:
            yield http

    async def peer(self, **how: int) -> Peer:
        """Return a connection from the next address.

        Raises:
            OSError: when it is refused.
        """
        self.seen["connects"] += 1
        return await Peer.dial((next(self._from), 0), (self.host, self.port), **how)

    async def dial(self, port: int) -> Peer:
        """Return a connection from the next address to another door.

        Raises:
            OSError: when it is refused.
        """
        self.seen["connects"] += 1
        return await Peer.dial((next(self._from), 0), (self.host, port))

    async def guest(self, query: str = "", *, token: str | None = None, **how: int) -> Peer | None:
        """Return a connection that has come in with a good token; None where it was not let in, which is counted.

        Raises:
            OSError: when it is refused.
        """
        peer = await self.peer(**how)
        with ExitStack() as closing:
            closing.enter_context(peer)
            if await peer.welcomed(token or self.token(), query):
                closing.pop_all()
                return peer
            self.note(await peer.ending())
        return None

    def note(self, ending: Ending) -> None:
        """Count how a connection ended."""
        self.seen[str(ending)] += 1

    def got_in(self, what: str) -> None:
        """Count what nobody must be able to do."""
        self.seen[GOT_IN + what] += 1

    async def listen(self, user: str) -> None:
        """Be a user whom nobody may send anything to, until cancelled: what comes got in."""

        def judge(said: Mapping[str, Any]) -> None:
            if said["type"] == "message":
                self.got_in(f"a message to {user}")

        peer = await self.guest(token=self.doors.sign(user))
        if peer is not None:
            with peer:
                self.seen["listeners"] += 1
                await peer.ending(heard=judge)

    async def hold(self, count: int, one: Callable[[], Awaitable[None]], until: anyio.Event) -> None:
        """Keep `count` (scaled) of `one` going at a time until told to stop: one that ends is followed by another."""

        async def again() -> None:
            while not until.is_set():
                await self._attempt(one)

        async with anyio.create_task_group() as tasks:
            for _ in range(self.many(count)):
                tasks.start_soon(again)
            await until.wait()
            tasks.cancel_scope.cancel()

    async def flood(self, a_second: float, one: Callable[[], Awaitable[None]], until: anyio.Event) -> None:
        """Begin `one` so many times (scaled) a second until told to stop, with a bounded number under way."""
        under_way = anyio.Semaphore(_AT_ONCE)

        async def attempt() -> None:
            async with under_way:
                await self._attempt(one)

        async with anyio.create_task_group() as tasks:
            async for due in beats(a_second * self.scale, until):
                for _ in range(min(due, under_way.value)):
                    tasks.start_soon(attempt)
            tasks.cancel_scope.cancel()

    async def _attempt(self, one: Callable[[], Awaitable[None]]) -> None:
        try:
            await one()
        except (OSError, httpx.TransportError) as exc:
            self.seen[type(exc).__name__] += 1
            await anyio.sleep(_BEAT_S)


async def beats(a_second: float, until: anyio.Event) -> AsyncIterator[int]:
    """Yield at short intervals how many are due since the last time, until told to stop."""
    at_s, owed = time.monotonic(), 0.0
    while not until.is_set():
        await anyio.sleep(_BEAT_S)
        now_s = time.monotonic()
        owed += (now_s - at_s) * a_second
        at_s = now_s
        yield int(owed)
        owed -= int(owed)


@dataclass(frozen=True)
class Attack:
    """One kind of attack.

    Attributes:
        name: what it is asked for by.
        about: what it does, in a line, with its pace.
        limits: the settings that it meets.
        run: does it until told to stop.
        codes: close codes that the edge may answer with; "" is a connection ended without one.
        counted: the metrics that show it; one of them at least rises.
        memory_mib: most that the edge may grow by, at the scale 1, beside `floor_mib`.
        because: where that figure comes from.
        seconds_min: the shortest time in which it shows.
        reached: what its doors answer it with; each is seen, or it was not there.
        prepare: what has to stand there before it begins.
        callback: the edge asks a service of the attacker's who the bearer of a token is (`auth_by` `http`).
    """

    name: str
    about: str
    limits: tuple[str, ...]
    run: Callable[[Target, anyio.Event], Coroutine[Any, Any, None]]
    codes: frozenset[str]
    counted: tuple[str, ...]
    memory_mib: float
    because: str
    seconds_min: float = 1.0
    reached: tuple[str, ...] = ()
    prepare: Callable[[Target], Coroutine[Any, Any, None]] | None = None
    callback: bool = False
