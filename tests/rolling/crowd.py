"""The crowd, a process of its own: clients of the library at one address, and a producer that numbers each one's messages.

    python -m tests.rolling.crowd        one line of JSON in, two out, with a line in between that ends the traffic

The first line says where everything is (`Wanted`); `Ready` answers it when all have had their welcome. Another line,
whatever it says, ends the traffic: once all that was appended has come, or nothing has for long, `Heard` tells how it went.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final

import anyio
import msgspec
import uvloop
from anyio import AsyncFile

from edge.client import Client, NotWelcome, Parted, Pauses, Status, Welcomed
from edge.open_files import raise_limit
from router.timed_redis import TimedRedis

_TICK_S: Final = 0.1
_MISSED_AFTER_S: Final = 15.0
"""When nothing has come for so long, with nothing more appended, what is still owed is missed."""

_AT_ONCE: Final = 64
"""Most that are on their way in at first."""

_PAUSES: Final = Pauses(max_s=5.0)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Where the clients connect, and as whom.

    Attributes:
        url: of the balancer.
        redis_url: where to append.
        stream: the name of `in`.
        tokens: user → token; one client each.
        rate_per_s: messages appended a second, to all together.
    """

    url: str
    redis_url: str
    stream: str
    tokens: dict[str, str]
    rate_per_s: float


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """All are there."""

    clients: int


class Return(msgspec.Struct, frozen=True, kw_only=True):
    """A client that lost its connection and has another.

    Attributes:
        left_s: when it was sent away, Unix time.
        back_s: when it had its welcome.
        tries: connects that came to nothing in between.
        node: who holds it now.
    """

    left_s: float
    back_s: float
    tries: int
    node: str


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it all.

    Attributes:
        sent: messages appended.
        missed: those of them that did not come.
        amiss: messages that came twice, or before an earlier one.
        turned_away: clients that an edge told not to come again.
        away: clients without a connection at the end.
        returns: in the order in which they were back.
    """

    sent: int
    missed: int
    amiss: int
    turned_away: int
    away: int
    returns: list[Return]


class _Member:
    """One client, and what it is owed: messages 1, 2, 3 … up to `sent`."""

    def __init__(self, came_in: Callable[[_Member], None], came_back: Callable[[Return], None]) -> None:
        self.sent = self.heard = self.amiss = 0
        self.here = self.turned_away = self._was_here = False
        self._came_in = came_in
        self._came_back = came_back
        self._left_s = 0.0
        self._tries = 0

    def note(self, status: Status) -> None:
        """Take a status of the client."""
        if isinstance(status, Welcomed):
            self.here = True
            if self._was_here:
                self._came_back(Return(left_s=self._left_s, back_s=time.time(), tries=self._tries, node=status.node))
            else:
                self._was_here = True
                self._came_in(self)
        elif isinstance(status, Parted):
            if self.here:
                self._left_s, self._tries = time.time(), 0
            else:
                self._tries += 1
            self.here = False

    def take(self, number: object) -> None:
        """Take a message."""
        if number != self.heard + 1:
            self.amiss += 1
        if isinstance(number, int):
            self.heard = max(self.heard, number)


class Crowd:
    """The clients and their producer."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._returns: list[Return] = []
        self._all_here = anyio.Event()
        self._at_first = anyio.CapacityLimiter(_AT_ONCE)
        self._members = {user: _Member(self._came_in, self._returns.append) for user in wanted.tokens}
        self._still_out = len(self._members)
        self._over = anyio.Event()
        self._told_all = anyio.Event()
        self._came = anyio.Event()

    async def run(self, lines: AsyncFile[str]) -> None:
        """Have them come, write to them until a line is read, and tell."""
        async with anyio.create_task_group() as tasks:
            for user, member in self._members.items():
                tasks.start_soon(self._attend, user, member)
            await self._all_here.wait()
            _say(Ready(clients=len(self._members)))
            tasks.start_soon(self._produce)
            await lines.readline()
            self._over.set()
            await self._told_all.wait()
            await self._until_all_has_come()
            _say(self._heard())
            tasks.cancel_scope.cancel()

    def _came_in(self, member: _Member) -> None:
        self._at_first.release_on_behalf_of(member)
        self._still_out -= 1
        if not self._still_out:
            self._all_here.set()

    async def _attend(self, user: str, member: _Member) -> None:
        async def token() -> str:
            return self._wanted.tokens[user]

        await self._at_first.acquire_on_behalf_of(member)
        client = Client([self._wanted.url], token, since=0, on_status=member.note, pauses=_PAUSES)
        try:
            async with client:
                async for message in client:
                    member.take(message.body)
                    self._came.set()
        except NotWelcome:
            member.turned_away = True

    async def _produce(self) -> None:
        """Append some at each tick, to one user after the other."""
        users, count, began_s = list(self._members), 0, time.monotonic()
        async with TimedRedis.from_url(self._wanted.redis_url, protocol=2) as redis:
            while not self._over.is_set():
                await anyio.sleep(_TICK_S)
                pipeline = redis.pipeline(transaction=False)
                for number in range(count, int((time.monotonic() - began_s) * self._wanted.rate_per_s)):
                    user = users[number % len(users)]
                    self._members[user].sent += 1
                    pipeline.xadd(self._wanted.stream, {"to": f"user:{user}", "body": str(self._members[user].sent)})
                    count = number + 1
                await pipeline.execute()
        self._told_all.set()

    async def _until_all_has_come(self) -> None:
        while self._missed():
            self._came = anyio.Event()
            with anyio.move_on_after(_MISSED_AFTER_S):
                await self._came.wait()
                continue
            return

    def _missed(self) -> int:
        return sum(member.sent - member.heard for member in self._members.values())

    def _heard(self) -> Heard:
        members = self._members.values()
        return Heard(
            sent=sum(member.sent for member in members),
            missed=self._missed(),
            amiss=sum(member.amiss for member in members),
            turned_away=sum(member.turned_away for member in members),
            away=sum(not member.here for member in members),
            returns=self._returns,
        )


def _say(what: msgspec.Struct) -> None:
    sys.stdout.write(msgspec.json.encode(what).decode() + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Read what is wanted, and serve."""
    raise_limit()
    lines: AsyncFile[str] = anyio.wrap_file(sys.stdin)
    wanted = msgspec.json.decode(await lines.readline(), type=Wanted)
    await Crowd(wanted).run(lines)


if __name__ == "__main__":
    uvloop.run(main())
