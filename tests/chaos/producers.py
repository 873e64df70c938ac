"""A producer as the contract wants it: one message after the other, each with an id, tried until Redis answers."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any, Final

import anyio
from redis.asyncio import Redis

from router.redis_client import OUTAGE, open_redis
from router.settings import Settings
from tests.chaos.history import Appended, History, Tried

TIMEOUT_S: Final = 2.0
RETRY_S: Final = 0.05

SEVERAL: Final = 0.15
"""Share of messages that go to several targets at once."""
TARGETS_MAX: Final = 3

AGAIN: Final = 0.04
"""Share of messages that are appended a second time, a little later, as by a producer that crashed and does not know."""
_REMEMBERED: Final = 20


class Producer:
    """Appends to the users' own targets, and records it.

    Args:
        history: takes what is tried and what Redis has answered.
        name: part of every id, so that two producers never mean the same message.
        redis_url: where; a server that has moved is found there again.
        stream: which `in`.
        users: whom it writes to.
        pause_s: about how long it waits between two messages.
        rng: draws all that is drawn.
    """

    def __init__(
        self, history: History, name: str, redis_url: str, stream: str, users: Sequence[str], pause_s: float, rng: Random
    ) -> None:
        self._history = history
        self._name = name
        self._redis_url = redis_url
        self._stream = stream
        self._users = users
        self._pause_s = pause_s
        self._rng = rng
        self._count = 0
        self._recent: deque[dict[str, str]] = deque(maxlen=_REMEMBERED)

    async def run(self, over: anyio.Event) -> None:
        """Append until it is over; what has been tried by then is finished first."""
        redis = open_redis(Settings(redis_url=self._redis_url, redis_timeout_s=TIMEOUT_S))
        try:
            while not over.is_set():
                await self._append_next(redis)
                with anyio.move_on_after(self._rng.expovariate(1 / self._pause_s)):
                    await over.wait()
        finally:
            # The driver waits for the goodbye of a connection, which a link may be holding back: for `TIMEOUT_S` at most.
            with anyio.CancelScope(shield=True), suppress(*OUTAGE):
                await redis.aclose()

    async def append(self, redis: Redis, users: Sequence[str]) -> None:
        """Append one new message, however long it takes."""
        self._count += 1
        ident = f"{self._name}-{self._count}"
        targets = [f"user:{user}" for user in users]
        fields = {"to": ",".join(targets), "id": ident, "body": json.dumps({"n": self._count})}
        for target in targets:
            self._history.note(Tried(self._history.now(), self._name, ident, target))
        entry = await self._insist(redis, fields)
        for target in targets:
            self._history.note(Appended(self._history.now(), self._name, ident, target, entry))
        self._recent.append(fields)

    async def repeat(self, redis: Redis, number: int) -> None:
        """Append once more one of the last messages, counted from the oldest of those remembered."""
        await self._insist(redis, self._recent[number])

    async def _append_next(self, redis: Redis) -> None:
        several = self._rng.random() < SEVERAL
        await self.append(redis, self._rng.sample(self._users, self._rng.randint(2, TARGETS_MAX) if several else 1))
        if self._rng.random() < AGAIN:
            await self.repeat(redis, self._rng.randrange(len(self._recent)))

    async def _insist(self, redis: Redis, fields: dict[Any, Any]) -> str:
        """Append until Redis answers, and return the entry's id."""
        while True:
            try:
                entry = await redis.xadd(self._stream, fields)
            except OUTAGE:
                await anyio.sleep(RETRY_S)
            else:
                return entry.decode() if isinstance(entry, bytes) else entry
