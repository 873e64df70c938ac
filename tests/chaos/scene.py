"""A small directed run: a few devices that stay, one producer, and whatever is done to the processes in between."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from random import Random
from types import TracebackType
from typing import Final, Self

import anyio
from redis.asyncio import Redis

from tests.chaos.checker import Verdict, check
from tests.chaos.devices import BareDevice, Calls, ClientDevice, Device, Habits
from tests.chaos.history import Accepted, Appended, DeviceKind, Got, History
from tests.chaos.producers import Producer
from tests.chaos.recorder import Recorder
from tests.stack import Stack

SEATED_TIMEOUT_S: Final = 20.0
QUIET_S: Final = 0.3
"""How long to listen on when all is well, for what comes twice."""

_POLL_S: Final = 0.01


class Scene:
    """Devices of some users, recorded, and a producer that appends what the scene says.

    Args:
        stack: the running system.
        name: part of every user's name, so that scenes on one stack do not meet.
    """

    def __init__(self, stack: Stack, name: str) -> None:
        self.stack = stack
        self.history = History()
        self._name = name
        self._devices: list[Device] = []
        self._exits = AsyncExitStack()
        self._tasks = anyio.create_task_group()
        self._producers = 0

    async def __aenter__(self) -> Self:
        await self._exits.enter_async_context(self._tasks)
        self._exits.callback(self._tasks.cancel_scope.cancel)
        self.redis = await self._exits.enter_async_context(Redis.from_url(self.stack.settings.redis_url, protocol=2))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._exits.__aexit__(kind, exc, trace)

    def user(self, number: int) -> str:
        """Return the name of one of the scene's users."""
        return f"{self._name}-{number}"

    async def join(self, *users: str, kinds: Sequence[DeviceKind] = ("client", "raw")) -> None:
        """Bring one device of each kind online for each user, and return when each has had its welcome."""
        for user in users:
            token = await anyio.to_thread.run_sync(self.stack.token, user)
            for kind in kinds:
                self._join(user, kind, token)
        await until(lambda: all(device.recorder.connected for device in self._devices), SEATED_TIMEOUT_S)

    def producer(self) -> Producer:
        """Return another producer."""
        self._producers += 1
        name = f"{self._name}-p{self._producers}"
        return Producer(self.history, name, self.stack.settings.redis_url, "push:{0}:in", (), math.inf, Random(name))  # noqa: S311 - draws nothing

    async def append(self, *users: str) -> None:
        """Append one message to each of these users, as a producer of its own."""
        producer = self.producer()
        for user in users:
            await producer.append(self.redis, [user])

    def heard(self, *users: str) -> bool:
        """Tell whether every device of these users has got the message that was appended to it last."""
        latest = {appended.target: appended.id for appended in self.history.of(Appended)}
        got = {(got.device, got.id) for got in self.history.of(Got)}
        recorders = [device.recorder for device in self._devices if device.recorder.user in users]
        return all((f"{recorder.user}/{recorder.name}", latest[recorder.target]) in got for recorder in recorders)

    async def all_stored(self, timeout_s: float) -> bool:
        """Return True as soon as MongoDB has every message that was appended, or False when that takes too long."""
        appended = {appended.id for appended in self.history.of(Appended)}
        with anyio.move_on_after(timeout_s):
            while appended - {message.id for message in await anyio.to_thread.run_sync(self._read_inbox)}:  # noqa: ASYNC110
                await anyio.sleep(_POLL_S * 10)
            return True
        return False

    async def all_well(self, timeout_s: float) -> bool:
        """Return True as soon as every device has what it is owed, or False when that takes too long."""
        with anyio.move_on_after(timeout_s):
            while not check(self.history, await anyio.to_thread.run_sync(self._read_inbox)).green:  # noqa: ASYNC110
                await anyio.sleep(_POLL_S * 10)
            return True
        return False

    async def verdict(self, timeout_s: float) -> Verdict:
        """Return what the checker says, once all is well or has had time enough for it."""
        await self.all_well(timeout_s)
        await anyio.sleep(QUIET_S)
        return check(self.history, await anyio.to_thread.run_sync(self._read_inbox))

    def _join(self, user: str, kind: DeviceKind, token: str) -> None:
        async def same_token() -> str:
            return token

        habits = Habits(kind, "device", from_now=False, stay_s=math.inf, away_s=1.0, stops_reading=0.0, clock_off=0.0)
        make = ClientDevice if kind == "client" else BareDevice
        calls = Calls(seated=anyio.Event(), home=anyio.Event())
        recorder = Recorder(self.history, user, kind)
        device = make(recorder, self.stack.edge_urls, same_token, habits, calls, Random(user))  # noqa: S311 - see above
        self._devices.append(device)
        self._tasks.start_soon(device.run)

    def _read_inbox(self) -> list[Accepted]:
        with self.stack.mongo_client() as mongo:
            found = mongo.pushway.inbox.find({"target": {"$regex": f"^user:{self._name}-"}})
            return [Accepted.of_document(document) for document in found]


async def until(condition: Callable[[], bool], timeout_s: float) -> None:
    """Return when the condition is true; what other tasks and processes do makes it so.

    Raises:
        TimeoutError: when it does not become true.
    """
    with anyio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110 - other processes make it true
            await anyio.sleep(_POLL_S)
