"""Devices that come and go, each a loop of its own until it is cancelled.

Half of them use the product's Python client, as an application would; the others are bare WebSockets, which see what the
client would hide. Either keeps its cursor itself, as an application with a disk does, or leaves that to the cluster.
"""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal
from urllib.parse import urlencode

import anyio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from edge import client as product
from tests.chaos.history import DeviceKind
from tests.chaos.recorder import ABNORMAL, Recorder

CursorKeeper = Literal["device", "server"]

WELCOME_TIMEOUT_S: Final = 5.0
PING_S: Final = 4.0
"""A bare device asks so often whether the other side is there, and gives up after as long again."""

RETRY_MAX_S: Final = 0.5
NOT_READING_S: Final = 3.0
CLOCK_OFF_US: Final = 3_600 * 1_000_000

_ACKS: Final = 0.2
"""Share of messages that a bare device acknowledges, where the cluster keeps its cursor."""

_NORMAL: Final = 1000
_QUEUE_MAX: Final = 16
"""Frames that the library takes ahead of a device that does not read; after that the socket fills."""


@dataclass(frozen=True, slots=True)
class Calls:
    """What all devices listen to.

    Attributes:
        seated: set when everybody has had a welcome; nobody goes before that.
        home: set when the run is over: everybody comes, stays, and reads.
    """

    seated: anyio.Event
    home: anyio.Event


@dataclass(frozen=True, slots=True)
class Habits:
    """What kind of device it is.

    Attributes:
        kind: through the client library, or bare.
        keeper: who keeps the cursor.
        from_now: begins with what comes from now on, not with everything there is.
        stay_s: about how long it stays; infinite for a steady one.
        away_s: about how long it is gone.
        stops_reading: share of messages, 0 to 1, after which it does not read for a while (bare ones only).
        clock_off: share of its returns with a clock that is an hour off (bare ones with their own cursor only).
    """

    kind: DeviceKind
    keeper: CursorKeeper
    from_now: bool
    stay_s: float
    away_s: float
    stops_reading: float = 0.01
    clock_off: float = 0.1


class Device(ABC):
    """A device that comes and goes until everybody is called home, and then stays.

    Args:
        recorder: takes what happens.
        edges: addresses of the edges.
        token: gives a token for its user.
        habits: what kind of device it is.
        calls: tells when to go and when to come.
        rng: draws all that is drawn.
    """

    def __init__(
        self,
        recorder: Recorder,
        edges: Sequence[str],
        token: Callable[[], Awaitable[str]],
        habits: Habits,
        calls: Calls,
        rng: Random,
    ) -> None:
        self.recorder = recorder
        self._edges = edges
        self._token = token
        self._habits = habits
        self._calls = calls
        self._rng = rng

    async def run(self) -> None:
        """Live until cancelled."""
        while True:
            await self._stay()
            await self._be_away()

    async def _stay(self) -> None:
        """Be there for a while: until it is over, or, once everybody is called home, for good."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._leave, tasks.cancel_scope)
            self.recorder.came()
            await self._live()

    async def _leave(self, scope: anyio.CancelScope) -> None:
        if math.isinf(self._habits.stay_s):
            return
        await self._calls.seated.wait()
        with anyio.move_on_after(self._about(self._habits.stay_s)):
            await self._calls.home.wait()
            return
        scope.cancel()

    async def _be_away(self) -> None:
        self.recorder.went()
        self.recorder.closed(None)
        with anyio.move_on_after(self._about(self._habits.away_s)):
            await self._calls.home.wait()

    def _about(self, mean_s: float) -> float:
        return self._rng.uniform(0, 2 * mean_s)

    @abstractmethod
    async def _live(self) -> None:
        """Be connected, again and again, until cancelled."""

    async def _connect(self, since: int | None) -> ClientConnection:
        """Open a bare connection."""
        wishes = {"device": self.recorder.name} | ({} if since is None else {"since": since})
        return await connect(
            f"{self._rng.choice(self._edges)}?{urlencode(wishes)}",
            subprotocols=[product.SUBPROTOCOL],
            additional_headers={"Authorization": f"Bearer {await self._token()}"},
            compression=None,
            proxy=None,
            open_timeout=WELCOME_TIMEOUT_S,
            ping_interval=PING_S,
            ping_timeout=PING_S,
            max_queue=_QUEUE_MAX,
        )

    async def _welcome(self, connection: ClientConnection) -> Mapping[str, Any]:
        with anyio.fail_after(WELCOME_TIMEOUT_S):
            welcome: dict[str, Any] = json.loads(await connection.recv())
        if welcome["type"] != "welcome":
            raise OSError(f"no welcome but {welcome}")
        return welcome

    async def _pause(self) -> None:
        await anyio.sleep(self._rng.uniform(0, RETRY_MAX_S))


class BareDevice(Device):
    """A bare WebSocket that records every frame."""

    _clock_off = False

    async def _live(self) -> None:
        if not self.recorder.begun:
            self.recorder.joined("raw")
        self._clock_off = self._comes_with_clock_off()
        while True:
            try:
                await self._sit()
            except ConnectionClosed as exc:
                self.recorder.closed(ABNORMAL if exc.rcvd is None else exc.rcvd.code)
            except (OSError, InvalidHandshake):
                self.recorder.closed(ABNORMAL)
            await self._pause()

    def _comes_with_clock_off(self) -> bool:
        own = self._habits.keeper == "device" and self.recorder.begun
        return own and not self._calls.home.is_set() and self._rng.random() < self._habits.clock_off

    async def _sit(self) -> None:
        """Hold one connection until it ends."""
        since = self._since()
        connection = await self._connect(since)
        try:
            self._begin(await self._welcome(connection), since)
            await self._read(connection)
        finally:
            # A phone in a tunnel says no goodbye; that of the client library is heard often enough.
            connection.transport.abort()

    def _since(self) -> int | None:
        if self._clock_off:
            return _now_us() + self._rng.choice((-CLOCK_OFF_US, CLOCK_OFF_US))
        if self._habits.keeper == "server" or not (self.recorder.begun or not self._habits.from_now):
            return None
        return self.recorder.cursor

    def _begin(self, welcome: Mapping[str, Any], since: int | None) -> None:
        head = int(welcome["seq"])
        if self._clock_off and since is not None:
            # A cursor from the future counts as one from now, by the edge's clock, which was read before this one.
            self.recorder.began(min(since, max(head, _now_us())))
            since = None
        elif not self.recorder.begun:
            self.recorder.began(head if since is None else since)
        self._clock_off = False
        self.recorder.opened(welcome["session"], welcome["node"], since, head)

    async def _read(self, connection: ClientConnection) -> None:
        async for text in connection:
            frame: dict[str, Any] = json.loads(text)
            match frame:
                case {"type": "message", "id": str(ident), "to": str(to)}:
                    self.recorder.got(frame.get("seq"), ident, to)
                    await self._acknowledge(connection)
                case {"type": "lost", "to": to, "from": from_seq, "until": until}:
                    self.recorder.told(to, from_seq, until)
            if self._rng.random() < self._habits.stops_reading:
                await self._read_nothing()

    async def _acknowledge(self, connection: ClientConnection) -> None:
        if self._habits.keeper == "server" and self._rng.random() < _ACKS:
            with anyio.fail_after(PING_S):
                await connection.send(json.dumps({"type": "ack", "seq": self.recorder.cursor}))

    async def _read_nothing(self) -> None:
        if self._calls.home.is_set():
            return
        self.recorder.went()
        with anyio.move_on_after(self._rng.uniform(0, NOT_READING_S)):
            await self._calls.home.wait()
        self.recorder.came()


class ClientDevice(Device):
    """An application that uses the Python client; each stay is a life of it."""

    async def _live(self) -> None:
        while not self.recorder.begun:
            await self._begin()
        while True:
            self.recorder.joined("client")
            try:
                await self._iterate()
            except product.NotWelcome as exc:
                self.recorder.closed(exc.code)
            else:
                self.recorder.closed(_NORMAL)
            await self._pause()

    async def _begin(self) -> None:
        """Get to know from where on this device is owed everything, which a welcome says."""
        if not self._habits.from_now and self._habits.keeper == "device":
            self.recorder.began(0)
            return
        try:
            connection = await self._connect(None)
            try:
                self.recorder.began((await self._welcome(connection))["seq"])
            finally:
                connection.transport.abort()
        except (OSError, InvalidHandshake, ConnectionClosed):
            await self._pause()

    async def _iterate(self) -> None:
        since = self.recorder.cursor if self._habits.keeper == "device" else None
        async with product.Client(
            self._rng.sample(self._edges, len(self._edges)),
            self._token,
            device=self.recorder.name,
            since=since,
            on_status=self._note,
            pauses=product.Pauses(min_s=RETRY_MAX_S / 4, max_s=RETRY_MAX_S * 2),
        ) as client:
            async for message in client:
                self.recorder.got(message.seq, message.id, message.to)

    def _note(self, status: product.Status) -> None:
        match status:
            case product.Welcomed():
                self.recorder.opened(status.session, status.node, None, None)
            case product.Parted():
                self.recorder.closed(ABNORMAL)
            case product.Lost():
                self.recorder.told(status.to, status.since, status.until)


def _now_us() -> int:
    return time.time_ns() // 1_000
