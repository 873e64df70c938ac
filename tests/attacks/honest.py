"""The honest clients, a process of their own: each is sent a message about every second, and all of them are waited for.

    python -m tests.attacks.honest        one JSON object a line in, one a line out

The first line says where everything is (`Wanted`); the answer comes when all have had their welcome. Each further line ends
a window: the answer (`Served`) says how the messages appended in it fared. A client that loses its connection comes back
behind the last message it had, as any client does, and the loss is told.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import msgspec
import uvloop
from anyio import AsyncFile
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from edge.client import SUBPROTOCOL
from router.timed_redis import TimedRedis
from tests.attacks.figures import Served, quantile

MISSED_AFTER_S: Final = 15.0
"""When nothing has come for so long, with nothing more appended, what is still owed counts as missed."""

_TICK_S: Final = 0.1
"""How often some are appended: as seldom as can be, for the store needs most for a batch, however small."""

_RETRY_S: Final = 0.1
_AT_ONCE: Final = 32
_CUT: Final = 1006


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Where the clients connect, and as whom.

    Attributes:
        url: of the edge.
        redis_url: where to append.
        stream: the name of `in`.
        tokens: user → token; one client each.
        addresses: where the clients connect from, in turn.
    """

    url: str
    redis_url: str
    stream: str
    tokens: dict[str, str]
    addresses: tuple[str, ...]


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """All are there."""

    clients: int


class Honest:
    """The clients and their producer, who numbers the messages."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._users = list(wanted.tokens)
        self._owed: dict[int, float] = {}
        self._took_s: list[float] = []
        self._count = self._sent = self._doubled = 0
        self._closed: list[int] = []
        self._here = 0
        self._all_here = anyio.Event()
        self._came_in = anyio.Event()
        self._given_up: set[int] = set()
        self._began_s = time.monotonic()
        self._appending = anyio.Lock()
        self._at_once = anyio.CapacityLimiter(_AT_ONCE)

    async def run(self, lines: AsyncFile[str]) -> None:
        """Serve commands until there are no more."""
        async with anyio.create_task_group() as tasks:
            for number, user in enumerate(self._users):
                tasks.start_soon(self._attend, user, self._wanted.addresses[number % len(self._wanted.addresses)])
            await self._all_here.wait()
            _say(Ready(clients=self._here))
            tasks.start_soon(self._produce)
            async for _ in lines:
                _say(await self._end_window())
            tasks.cancel_scope.cancel()

    async def _end_window(self) -> Served:
        async with self._appending:
            seconds = time.monotonic() - self._began_s
            await self._wait_for_owed()
            took_s = sorted(self._took_s)
            p50, p99, most = (quantile(took_s, share) * 1e3 for share in (0.5, 0.99, 1.0))
            served = Served(
                seconds=seconds,
                sent=self._sent,
                missed=len(self._owed),
                doubled=self._doubled,
                closed=tuple(self._closed),
                p50_ms=p50,
                p99_ms=p99,
                max_ms=most,
            )
            self._given_up |= self._owed.keys()
            self._owed.clear()
            self._took_s.clear()
            self._closed.clear()
            self._sent = self._doubled = 0
            self._began_s = time.monotonic()
            return served

    async def _wait_for_owed(self) -> None:
        """Return when everything has come, or nothing has for long."""
        while self._owed:
            self._came_in = anyio.Event()
            with anyio.move_on_after(MISSED_AFTER_S):
                await self._came_in.wait()
                continue
            return

    async def _produce(self) -> None:
        """Append to every user once a second, some at each tick."""
        async with TimedRedis.from_url(self._wanted.redis_url, protocol=2) as redis:
            began_s = time.monotonic()
            while True:
                await anyio.sleep(_TICK_S)
                async with self._appending:
                    due = int((time.monotonic() - began_s) * len(self._users)) - self._count
                    await self._append(redis, min(due, len(self._users)))

    async def _append(self, redis: Redis, due: int) -> None:
        pipeline = redis.pipeline(transaction=False)
        for number in range(self._count, self._count + due):
            user = self._users[number % len(self._users)]
            pipeline.xadd(self._wanted.stream, {"to": f"user:{user}", "body": str(number)})
            self._owed[number] = time.monotonic()
        self._count += due
        self._sent += due
        await pipeline.execute()

    async def _attend(self, user: str, address: str) -> None:
        """Be connected, again and again."""
        seq: int | None = None
        while True:
            try:
                async with self._connected(user, address, seq) as connection:
                    self._came()
                    async for frame in connection:
                        seq = self._take(json.loads(frame)) or seq
                    self._closed.append(connection.close_code or _CUT)
            except ConnectionClosed as exc:
                self._closed.append(exc.rcvd.code if exc.rcvd else _CUT)
            except (OSError, InvalidHandshake, TimeoutError):
                self._closed.append(_CUT)
            await anyio.sleep(_RETRY_S)

    @asynccontextmanager
    async def _connected(self, user: str, address: str, seq: int | None) -> AsyncIterator[ClientConnection]:
        url = self._wanted.url + (f"?since={seq}" if seq else "")
        headers = {"Authorization": f"Bearer {self._wanted.tokens[user]}"}
        async with self._at_once:
            connection = await connect(
                url,
                subprotocols=[SUBPROTOCOL],
                additional_headers=headers,
                compression=None,
                proxy=None,
                local_addr=(address, 0),
                ping_interval=None,
            )
        try:
            welcome = json.loads(await connection.recv())
            assert welcome["type"] == "welcome", welcome
            yield connection
        finally:
            connection.transport.abort()

    def _came(self) -> None:
        self._here += 1
        if self._here == len(self._users):
            self._all_here.set()

    def _take(self, frame: dict[str, Any]) -> int | None:
        if frame["type"] != "message":
            return None
        appended_s = self._owed.pop(frame["body"], None)
        if frame["body"] in self._given_up:
            self._given_up.discard(frame["body"])
        elif appended_s is None:
            self._doubled += 1
        else:
            self._took_s.append(time.monotonic() - appended_s)
        self._came_in.set()
        seq: int = frame["seq"]
        return seq


def _say(what: msgspec.Struct) -> None:
    sys.stdout.write(msgspec.json.encode(what).decode() + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Read what is wanted, and serve."""
    lines: AsyncFile[str] = anyio.wrap_file(sys.stdin)
    wanted = msgspec.json.decode(await lines.readline(), type=Wanted)
    await Honest(wanted).run(lines)


if __name__ == "__main__":
    uvloop.run(main())
