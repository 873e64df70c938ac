"""A producer as the contract wants it: one message after the other, each with an id, tried until Redis answers.

Among what it says there is some of everything: messages to many, messages that pass a device by, that wait for their time, or
that the next one of their key makes superfluous; and now and then it says one again, not always with the same words.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
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

MANY: Final = 0.005
"""Share of messages that go to everybody, by name, and to `STRANGERS` whom nobody has ever seen."""
STRANGERS: Final = 250

EXCLUDES: Final = 0.1
"""Share of messages that pass somebody by: a device of one of their users, or nobody that there is."""
DEVICES: Final = ("d0", "d1", "d2")
NOBODY: Final = ("session:gone", "session:exp=1;not=%3B%", "device:;=%:,%25", "device:u0,d0;trace=1")

COLLAPSES: Final = 0.1
"""Share of messages with a key."""
KEYS: Final = ("unread", "price;=%:", "k" * 128)

WAITS: Final = 0.05
"""Share of messages with an `at`."""
WAIT_MAX_S: Final = 3.0

AGAIN: Final = 0.04
"""Share of messages that are appended a second time, a little later, as by a producer that crashed and does not know."""
CHANGED: Final = 0.5
"""Share of those that say something else the second time: other words, fewer targets, or no `at`."""
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

    async def append(self, redis: Redis, users: Sequence[str], wait_s: float = 0.0, **more: str) -> None:
        """Append one new message, however long it takes; not to be sent before `wait_s` is over, if that is given."""
        self._count += 1
        ident = f"{self._name}-{self._count}"
        targets = [f"user:{user}" for user in users]
        fields = {"to": ",".join(targets), "id": ident, "body": json.dumps({"n": self._count}), **more}
        due_s = 0.0
        if wait_s:
            at_ms = int((time.time() + wait_s) * 1000)
            due_s = self._history.now() + at_ms / 1000 - time.time()
            fields["at"] = str(at_ms)
        self._note_try(fields, due_s)
        entry = await self._insist(redis, fields)
        for target in targets:
            self._history.note(Appended(self._history.now(), self._name, ident, target, entry, due_s))
        self._recent.append(fields)

    async def repeat(self, redis: Redis, number: int) -> None:
        """Append once more one of the last messages, counted from the oldest of those remembered."""
        await self._insist(redis, self._recent[number])

    async def change(self, redis: Redis, number: int) -> None:
        """Append once more one of the last messages, saying something else."""
        fields = dict(self._recent[number])
        match self._rng.randrange(3):
            case 0:
                fields["body"] = '"something else"'
            case 1:
                targets = fields["to"].split(",")
                fields["to"] = ",".join(targets[len(targets) // 2 :])
            case _:
                fields.pop("at", None)
                self._note_try(fields, 0.0)
        await self._insist(redis, fields)

    def _note_try(self, fields: Mapping[str, str], due_s: float) -> None:
        for target in fields["to"].split(","):
            self._history.note(Tried(self._history.now(), self._name, fields["id"], target, due_s))

    async def _append_next(self, redis: Redis) -> None:
        users = self._draw_users()
        wait_s = self._rng.uniform(0, WAIT_MAX_S) if self._rng.random() < WAITS else 0.0
        await self.append(redis, users, wait_s, **self._draw_more(users))
        if self._rng.random() < AGAIN:
            again = self.change if self._rng.random() < CHANGED else self.repeat
            await again(redis, self._rng.randrange(len(self._recent)))

    def _draw_users(self) -> Sequence[str]:
        if self._rng.random() < MANY:
            everybody = [*self._users, *(f"stranger{number}" for number in range(STRANGERS))]
            return self._rng.sample(everybody, len(everybody))
        several = self._rng.random() < SEVERAL
        return self._rng.sample(self._users, self._rng.randint(2, TARGETS_MAX) if several else 1)

    def _draw_more(self, users: Sequence[str]) -> dict[str, str]:
        more = {}
        if self._rng.random() < EXCLUDES:
            device = f"device:{self._rng.choice(users)},{self._rng.choice(DEVICES)}"
            more["exclude"] = self._rng.choice([device, device, device, *NOBODY])
        if self._rng.random() < COLLAPSES:
            more["collapse"] = self._rng.choice(KEYS)
        return more

    async def _insist(self, redis: Redis, fields: dict[Any, Any]) -> str:
        """Append until Redis answers, and return the entry's id."""
        while True:
            try:
                entry = await redis.xadd(self._stream, fields)
            except OUTAGE:
                await anyio.sleep(RETRY_S)
            else:
                return entry.decode() if isinstance(entry, bytes) else entry
