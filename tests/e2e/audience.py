"""Clients and producers for end-to-end tests: sessions that keep every message, and traffic that never gives up."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import anyio
from anyio.abc import TaskGroup, TaskStatus
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from edge.client import SUBPROTOCOL
from router.redis_client import OUTAGE, open_redis
from tests.stack import Stack

PATIENCE_S = 60.0
"""How long a condition may take to come true. A pass never waits for it."""

RETRY_S = 0.02


@dataclass(eq=False)
class Seat:
    """One session's place in an audience; it sits down again when it loses its connection, if told to.

    Attributes:
        messages: every message frame, in the order it came.
        came_s: when each of them did (monotonic clock).
        nodes: the node of each connection it had.
        closes: close code of each connection that ended; None for the one that the test itself ended.
    """

    user: str
    url: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    came_s: list[float] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    closes: list[int | None] = field(default_factory=list)

    @property
    def bodies(self) -> list[Any]:
        """What the messages say."""
        return [message.get("body", message.get("text")) for message in self.messages]

    @property
    def seqs(self) -> list[int]:
        """Their seqs, the transient ones left out."""
        return [message["seq"] for message in self.messages if "seq" in message]


class Audience:
    """Sessions on the edges of a stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._tokens: dict[str, str] = {}
        self._news = anyio.Event()
        self._tasks: TaskGroup = anyio.create_task_group()
        self.seats: list[Seat] = []

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._tasks.cancel_scope.cancel()
        return await self._tasks.__aexit__(kind, exc, trace)

    async def join(self, user: str, edge: int, *, again: bool = False) -> Seat:
        """Open a session of a user on edge 0, 1 …, and return when it has had its welcome.

        Args:
            user: who.
            edge: where.
            again: whether to connect anew, to the same edge, when the connection is lost, and to ask for what was missed
                since the last message.
        """
        if user not in self._tokens:
            self._tokens[user] = await anyio.to_thread.run_sync(self._stack.token, user)
        seat = Seat(user, self._stack.edge_urls[edge])
        await self._tasks.start(self._sit, seat, again)
        self.seats.append(seat)
        return seat

    async def come_back(self, left: Seat) -> Seat:
        """Open a session for whoever had this seat in an earlier audience, behind the last message that came there."""
        self._tokens[left.user] = await anyio.to_thread.run_sync(self._stack.token, left.user)
        seat = Seat(left.user, left.url, messages=list(left.messages))
        await self._tasks.start(self._sit, seat, False)
        self.seats.append(seat)
        return seat

    async def until(self, condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
        """Return when the condition is true; it is looked at whenever a frame has come.

        Raises:
            TimeoutError: when it does not become true.
        """
        with anyio.fail_after(timeout_s):
            while not condition():
                await self._news.wait()

    async def _sit(self, seat: Seat, again: bool, *, task_status: TaskStatus[None]) -> None:
        while True:
            try:
                await self._connect(seat, task_status if not seat.nodes else anyio.TASK_STATUS_IGNORED)
            except (OSError, InvalidHandshake, ConnectionClosed):
                if not (seat.nodes and again):
                    raise
            if not again:
                return
            await anyio.sleep(RETRY_S)

    async def _connect(self, seat: Seat, task_status: TaskStatus[None]) -> None:
        headers = {"Authorization": f"Bearer {self._tokens[seat.user]}"}
        since = f"?since={seat.seqs[-1]}" if seat.seqs else ""
        async with connect(
            seat.url + since,
            subprotocols=[SUBPROTOCOL],
            additional_headers=headers,
            compression=None,
            proxy=None,
        ) as connection:
            try:
                await self._listen(seat, connection, task_status)
            except ConnectionClosed:
                self._ring()
                raise
            finally:
                seat.closes.append(connection.close_code)
                # A closing handshake cannot be waited for while the test is being torn down.
                connection.transport.abort()

    async def _listen(self, seat: Seat, connection: ClientConnection, task_status: TaskStatus[None]) -> None:
        welcome = json.loads(await connection.recv())
        assert welcome["type"] == "welcome", welcome
        seat.nodes.append(welcome["node"])
        task_status.started()
        self._ring()
        async for frame in connection:
            message = json.loads(frame)
            if message["type"] == "message":
                seat.messages.append(message)
                seat.came_s.append(time.monotonic())
            self._ring()

    def _ring(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()


@dataclass
class Producer:
    """Appends numbered messages and tries each again, with its id, until Redis has taken it.

    Attributes:
        name: part of every id, so that two producers never mean the same message.
        sent: user → the numbers appended for them, in order.
        kind: what the names are of: `user`, or `topic`.
    """

    stack: Stack
    users: tuple[str, ...]
    name: str = field(default_factory=lambda: uuid4().hex[:8])
    sent: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    kind: str = "user"
    _count: int = 0

    async def send(self, messages: int, *, pause_s: float = 0.0) -> None:
        """Append so many, to each user in turn."""
        async with open_redis(self.stack.settings) as redis:
            for _ in range(messages):
                number, user = self._count, self.users[self._count % len(self.users)]
                self._count += 1
                fields = {"to": f"{self.kind}:{user}", "id": f"{self.name}-{number}", "body": json.dumps({"n": number})}
                await _insist(redis, fields)
                self.sent[user].append(number)
                if pause_s:
                    await anyio.sleep(pause_s)

    async def send_until(self, stop: anyio.Event, *, pause_s: float) -> None:
        """Append until told to stop."""
        while not stop.is_set():
            await self.send(1, pause_s=pause_s)


async def _insist(redis: Redis, fields: dict[Any, Any]) -> None:
    while True:
        try:
            await redis.xadd("push:{0}:in", fields)
        except OUTAGE:
            await anyio.sleep(RETRY_S)
        else:
            return


def numbers(seat: Seat) -> list[int]:
    """Return the numbers of a producer's messages, as they came."""
    return [body["n"] for body in seat.bodies]


def in_order_and_once(seats: Iterable[Seat]) -> bool:
    """Tell whether each session's seqs only ever rise."""
    return all(a < b for seat in seats for a, b in zip(seat.seqs, seat.seqs[1:], strict=False))
