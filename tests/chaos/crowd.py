"""The people and back ends of a chaos run: devices that come and go, and producers that never give up, all of it recorded.

    async with Crowd(links, CrowdSize(), history, seed=7) as crowd:
        ...  # faults
        accepted = await crowd.settle(read_inbox)

One event loop runs all of it, so one clock stamps every event. Whatever is drawn at random is drawn from the seed.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from random import Random
from types import TracebackType
from typing import Final, Self

import anyio

from tests.chaos.devices import BareDevice, Calls, ClientDevice, Device, Habits
from tests.chaos.history import Accepted, Appended, History
from tests.chaos.producers import Producer
from tests.chaos.recorder import Recorder

SEATED_TIMEOUT_S: Final = 30.0
TOKEN_LIFE_S: Final = 60.0
"""How long a token is used again; then auth is asked for a new one."""

TOKEN_ASKERS: Final = 4
"""How many ask auth at once: the driver's pool takes time that grows with the square of that."""

STILL_S: Final = 15.0
"""What is not accepted although nothing else was for so long is not waited for: it was lost with a Redis, perhaps."""

_POLL_S: Final = 0.1

CLIENTS: Final = 0.5
"""Share of devices that use the client library."""
FROM_NOW: Final = 0.4

ReadInbox = Callable[[], Awaitable[Sequence[Accepted]]]


@dataclass(frozen=True, slots=True)
class Links:
    """Where the crowd reaches the system, through proxies or not.

    Attributes:
        edges: addresses of the edges, as in `ws://127.0.0.1:8002/v1/connect`.
        redis_url: where producers append.
        token: gives a token for a user; raises OSError when auth is away.
        streams: the `in` streams; each producer keeps to one.
    """

    edges: tuple[str, ...]
    redis_url: str
    token: Callable[[str], Awaitable[str]]
    streams: tuple[str, ...] = ("push:{0}:in",)


@dataclass(frozen=True, slots=True)
class CrowdSize:
    """How many, how busy and how unsteady.

    Attributes:
        users: each has `devices_a_user` devices.
        devices_a_user: at least one.
        producers: each appends one message after the other.
        rate_per_s: messages appended a second, by all producers together.
        stay_s: about how long a device stays before it goes.
        away_s: about how long it is gone.
        steady: share of devices, 0 to 1, that never go of their own will.
        server_cursors: share of devices whose cursor the cluster keeps.
        stops_reading: share of messages after which a bare device does not read for a while.
    """

    users: int = 60
    devices_a_user: int = 3
    producers: int = 4
    rate_per_s: float = 100.0
    stay_s: float = 12.0
    away_s: float = 2.0
    steady: float = 0.3
    server_cursors: float = 0.4
    stops_reading: float = 0.01


class Crowd:
    """Devices and producers, recorded in `history`.

    Args:
        links: where the system is.
        size: how large a crowd.
        history: takes every event.
        seed: of all that is drawn at random.
        name: begins the names of its users and producers, so that several crowds on one system do not meet.
    """

    def __init__(self, links: Links, size: CrowdSize, history: History, seed: int, name: str = "") -> None:
        self._links = links
        self._size = size
        self._history = history
        self._seed = seed
        self._name = name
        self._over = anyio.Event()
        self._calls = Calls(seated=anyio.Event(), home=anyio.Event())
        self._producing = 0
        self._token_askers = anyio.CapacityLimiter(TOKEN_ASKERS)
        self._tokens: dict[str, tuple[str, float]] = {}
        self._users = tuple(f"{name}u{n}" for n in range(size.users))
        self._devices = tuple(self._make_devices())
        self._exits = AsyncExitStack()

    @property
    def devices(self) -> tuple[Device, ...]:
        """Everybody."""
        return self._devices

    async def __aenter__(self) -> Self:
        """Return when every device has had its first welcome and the producers have begun.

        Raises:
            TimeoutError: when some device has none.
        """
        async with self._exits as exits:
            tasks = await exits.enter_async_context(anyio.create_task_group())
            exits.callback(tasks.cancel_scope.cancel)
            for device in self._devices:
                tasks.start_soon(device.run)
            await _until(lambda: all(device.recorder.welcomes for device in self._devices), SEATED_TIMEOUT_S)
            self._calls.seated.set()
            for producer in self._make_producers():
                tasks.start_soon(self._produce, producer)
            self._exits = exits.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._exits.__aexit__(kind, exc, trace)

    async def settle(self, read_inbox: ReadInbox, *, timeout_s: float = 60.0, quiet_s: float = 1.0) -> Sequence[Accepted]:
        """End the traffic and bring every device online, until it has all it is owed; call it when the faults are over.

        Args:
            read_inbox: reads MongoDB's inbox; called until it holds every message appended, or time is over.
            timeout_s: how long a device may lack something; then it is for the checker to say so.
            quiet_s: how long to listen on when all is there, for what comes twice.

        Returns:
            What was accepted, as read last.
        """
        self._over.set()
        self._calls.home.set()
        with anyio.move_on_after(timeout_s):
            await _until(lambda: not self._producing, timeout_s)
            await self._have_all(read_inbox)
        await anyio.sleep(quiet_s)
        return await read_inbox()

    async def _have_all(self, read_inbox: ReadInbox) -> None:
        accepted: dict[str, list[Accepted]] = defaultdict(list)
        for message in await self._all_accepted(read_inbox):
            accepted[message.target].append(message)
        newest = [_newest_for(device.recorder, accepted[device.recorder.target]) for device in self._devices]
        await _until(lambda: all(map(_has, self._devices, newest)), math.inf)

    async def _all_accepted(self, read_inbox: ReadInbox) -> list[Accepted]:
        """Return the inbox by seq once it holds all that was appended, or once it has long grown no more."""
        appended = {(event.target, event.id) for event in self._history.of(Appended)}
        accepted: list[Accepted] = []
        grown_s = time.monotonic()
        while appended and time.monotonic() - grown_s < STILL_S:
            before = len(accepted)
            accepted = sorted(await read_inbox(), key=lambda message: message.seq)
            appended -= {(message.target, message.id) for message in accepted}
            grown_s = time.monotonic() if len(accepted) > before else grown_s
            await anyio.sleep(_POLL_S)
        return accepted

    async def _produce(self, producer: Producer) -> None:
        self._producing += 1
        await producer.run(self._over)
        self._producing -= 1

    def _make_devices(self) -> Iterator[Device]:
        for user in self._users:
            for number in range(self._size.devices_a_user):
                name = f"d{number}"
                rng = _rng(self._seed, f"{user}/{name}")
                habits = self._draw_habits(rng)
                make = ClientDevice if habits.kind == "client" else BareDevice
                recorder = Recorder(self._history, user, name)
                yield make(recorder, self._links.edges, partial(self._token, user), habits, self._calls, rng)

    def _draw_habits(self, rng: Random) -> Habits:
        size = self._size
        return Habits(
            kind="client" if rng.random() < CLIENTS else "raw",
            keeper="server" if rng.random() < size.server_cursors else "device",
            from_now=rng.random() < FROM_NOW,
            stay_s=math.inf if rng.random() < size.steady else size.stay_s,
            away_s=size.away_s,
            stops_reading=size.stops_reading,
        )

    def _make_producers(self) -> Iterator[Producer]:
        size, links = self._size, self._links
        for number in range(size.producers):
            name, stream = f"{self._name}p{number}", links.streams[number % len(links.streams)]
            pause_s = size.producers / size.rate_per_s
            yield Producer(self._history, name, links.redis_url, stream, self._users, pause_s, _rng(self._seed, name))

    async def _token(self, user: str) -> str:
        async with self._token_askers:
            token, fetched_s = self._tokens.get(user, ("", -math.inf))
            if time.monotonic() - fetched_s > TOKEN_LIFE_S:
                token = await self._links.token(user)
                self._tokens[user] = token, time.monotonic()
            return token


def _newest_for(recorder: Recorder, accepted: Sequence[Accepted]) -> int:
    """Return the highest of these seqs whose message does not pass a device by; 0 where there is none."""
    return next((message.seq for message in reversed(accepted) if message.exclude != recorder.excluded), 0)


def _has(device: Device, seq: int) -> bool:
    return device.recorder.connected and device.recorder.cursor >= seq


async def _until(condition: Callable[[], bool], timeout_s: float) -> None:
    with anyio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110 - what many tasks do makes it true
            await anyio.sleep(_POLL_S)


def _rng(seed: int, name: str) -> Random:
    return Random(f"{seed} {name}")  # noqa: S311 - it is to be drawn again, not to be guessed
