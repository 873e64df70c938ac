"""The system under test: all of Pushway as real processes, every connection between two of them through a link of ours.

    clients ──▶ edge-1 … edge-3 ──▶ redis, store, auth
    producers ──▶ redis ◀── collect, collect-2 (one stands by), dispatch, dispatch-2 (likewise); collects ──▶ store

What ends is started again, as a supervisor would, and when the stand ends, whatever way, nothing of it is left running.
With `failover` there are two Redis servers and three sentinels, and the links to Redis follow the primary.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import httpx
import pymongo
import pymongo.errors

from router.migrate import migrate
from router.up.folder import write_config
from tests.chaos.history import ACCEPTED_FIELDS, Accepted
from tests.chaos.proxy import HOST, Link
from tests.chaos.sentinel import Sentinels, replicated
from tests.servers import Process, Server
from tests.stack import API_KEY, Service, Stack

EDGES: Final = ("edge-1", "edge-2", "edge-3")
COLLECTS: Final = ("collect", "collect-2")
DISPATCHES: Final = ("dispatch", "dispatch-2")

LINKS: Final = (
    *(f"clients>{edge}" for edge in EDGES),
    *(f"{edge}>{server}" for edge in EDGES for server in ("redis", "store", "auth")),
    *(f"{collect}>{server}" for collect in COLLECTS for server in ("redis", "store")),
    *(f"{dispatch}>redis" for dispatch in DISPATCHES),
    "producers>redis",
    "clients>auth",
)
"""Every pair that speaks, as `<who>><to whom>`."""

# Short, so that a minute holds many faults; each is in proportion to the others as the defaults are.
SETTINGS: Final[Mapping[str, Any]] = {
    "lease_ms": 1_000,
    "node_ttl_ms": 2_000,
    "route_ttl_ms": 6_000,
    "probe_quiet_ms": 500,
    "probe_timeout_ms": 1_000,
    "redis_timeout_s": 2.0,
    "mongo_timeout_s": 5.0,
    "heartbeat_s": 3.0,
    "heartbeat_timeout_s": 2.0,
    "drain_timeout_s": 0.5,
    "backoff_max_ms": 500,
    "recover_window_s": 20.0,
    # So that an entry to many goes through in several slices.
    "batch_max": 128,
}

ALWAYS: Final = ("--appendfsync", "always")
"""Redis answers once it is on the disk, so that whatever was appended outlives `kill -9`."""

READY_TIMEOUT_S: Final = 30.0

_POLL_S: Final = 0.1
_TOKENS_AT_ONCE: Final = 8
_TOKEN_TIMEOUT_S: Final = 3.0
_READ_TIMEOUT_S: Final = 120.0
_READ_EVERY_S: Final = 1.0
_READ_WHOLE_EVERY_S: Final = 15.0
_READ_BACK_S: Final = 20.0
"""How much of what was read last is read again: a batch is stored a while after its time was taken."""


@dataclass(frozen=True, slots=True)
class Death:
    """A process that ended although nobody had ended it, or did not end when it was asked to.

    Attributes:
        process: which.
        log: the end of what it printed.
    """

    process: str
    log: str


class Stand:
    """The running system; see `standing`.

    Args:
        folder: for all data and logs.
        failover: whether Redis is a primary, a replica and three sentinels of redis-server, not one embedded Valkey.
        settings: settings that shall be neither what `SETTINGS` says nor the default.
        say: takes a line of progress.

    Attributes:
        links: by name, as in `LINKS`.
        deaths: processes that ended by themselves; they have been started again.
        stubborn: processes that had to be killed because they did not end when asked to.
        switches: how often the primary has changed.
        sentinels: None without failover.
    """

    def __init__(
        self,
        folder: Path,
        *,
        failover: bool = False,
        settings: Mapping[str, Any] | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._say = say
        self.sentinels: Sentinels | None = None
        self._beside: dict[str, Process] = {}
        redis = self._replicate(folder) if failover else None
        wishes = {**SETTINGS, **(settings or {})}
        self.stack = Stack(folder, redis=redis or "valkey", redis_options=ALWAYS, edges=len(EDGES), settings=wishes)
        self.links = {name: Link(name, self._port_behind(name.partition(">")[2])) for name in LINKS}
        self.deaths: list[Death] = []
        self.stubborn: list[Death] = []
        self.switches = 0
        self._ended_by_us: set[str] = set()
        self._accepted: dict[str, Accepted] = {}
        self._read_at_s = self._read_whole_at_s = -math.inf
        self._asking = anyio.Semaphore(_TOKENS_AT_ONCE)
        self._http = httpx.AsyncClient(trust_env=False, verify=False, timeout=1.0)  # noqa: S501 - there is no TLS here

    def _replicate(self, folder: Path) -> Server:
        primary, replica, sentinels = replicated(folder, *ALWAYS)
        self._beside = {"redis-2": replica, **{sentinel.name: sentinel for sentinel in sentinels}}
        self.sentinels = Sentinels(sentinels)
        return primary

    # -- what there is -----------------------------------------------------------------------------------------------

    @property
    def processes(self) -> dict[str, Process]:
        """All of it by name, in the order of the start."""
        all_of_stack = self.stack.processes
        servers = {name: all_of_stack[name] for name in ("redis", "store")}
        return {**servers, **self._beside, **all_of_stack}

    @property
    def primary(self) -> str:
        """The name of the Redis that the links lead to."""
        port = self.links["producers>redis"].target_port
        return next(name for name, server in self._redises.items() if server.port == port)

    @property
    def edge_urls(self) -> tuple[str, ...]:
        """Where clients connect."""
        return tuple(f"ws://{HOST}:{self.links[f'clients>{edge}'].port}/v1/connect" for edge in EDGES)

    @property
    def redis_url(self) -> str:
        """Where producers append."""
        return self._url("producers", "redis")

    async def token(self, user: str) -> str:
        """Return a token from auth, asked through the clients' link.

        Raises:
            OSError: when auth cannot be reached or cannot answer.
        """
        url, headers = f"{self._url('clients', 'auth')}/v1/tokens", {"authorization": f"Bearer {API_KEY}"}
        # A few at a time: whoever waits here has no timeout running, and hundreds in the client's own queue make it slow.
        async with self._asking:
            try:
                answer = await self._http.post(url, json={"user": user}, headers=headers, timeout=_TOKEN_TIMEOUT_S)
                token: str = answer.raise_for_status().json()["token"]
            except httpx.HTTPError as exc:
                raise OSError(f"auth: {type(exc).__name__}") from exc
        return token

    async def accepted(self) -> Sequence[Accepted]:
        """Return what MongoDB's inbox holds, by target and seq; read directly, not through a link.

        Ask as often as you like: a small store would do nothing else if all of it were read each time, so what is returned may
        be a second old, and only now and then all of it is read, in between what was stored lately. See `all_accepted`.

        Raises:
            TimeoutError: when the store cannot be read in time, however often it is tried.
        """
        pause_s = self._read_at_s + _READ_EVERY_S - anyio.current_time()
        await anyio.sleep(max(0.0, pause_s))
        if anyio.current_time() - self._read_whole_at_s > _READ_WHOLE_EVERY_S:
            return await self.all_accepted()
        lately = max((row.stored_s for row in self._accepted.values()), default=0.0) - _READ_BACK_S
        return await self._read({"shard": 0, "stored_at": {"$gte": datetime.fromtimestamp(max(0.0, lately), UTC)}})

    async def all_accepted(self) -> Sequence[Accepted]:
        """Return all that MongoDB's inbox holds now.

        Raises:
            TimeoutError: when the store cannot be read in time, however often it is tried.
        """
        self._accepted.clear()
        rows = await self._read({})
        self._read_whole_at_s = anyio.current_time()
        return rows

    async def _read(self, wanted: Mapping[str, Any]) -> Sequence[Accepted]:
        with anyio.fail_after(_READ_TIMEOUT_S):
            while True:
                try:
                    found = await anyio.to_thread.run_sync(self._read_inbox, wanted)
                except pymongo.errors.PyMongoError as exc:
                    self._say(f"the inbox cannot be read: {type(exc).__name__}")
                    await anyio.sleep(_POLL_S)
                else:
                    break
        self._accepted |= found
        self._read_at_s = anyio.current_time()
        return sorted(self._accepted.values(), key=lambda row: (row.target, row.seq))

    def _read_inbox(self, wanted: Mapping[str, Any]) -> dict[str, Accepted]:
        with self.stack.mongo_client() as mongo:
            found = mongo[self.stack.settings.mongo_database].inbox.find(wanted, ACCEPTED_FIELDS)
            return {row["_id"]: Accepted.of_document(row) for row in found}

    @property
    def _redises(self) -> dict[str, Server]:
        return {
            name: server for name, server in self.processes.items() if name.startswith("redis") and isinstance(server, Server)
        }

    def _port_behind(self, name: str) -> int:
        if name in ("redis", "store"):
            return {"redis": self.stack.redis, "store": self.stack.store}[name].port
        if name == "auth":
            return self.stack.settings.auth_port
        return urlsplit(self.stack.edge_urls[EDGES.index(name)]).port or 0

    def _url(self, who: str, server: str) -> str:
        at = f"{HOST}:{self.links[f'{who}>{server}'].port}"
        return {
            "redis": f"redis://{at}/0",
            "store": f"mongodb://{at}/?directConnection=true",
            "auth": f"http://{at}",
        }[server]

    # -- faults ------------------------------------------------------------------------------------------------------

    async def kill(self, name: str) -> None:
        """End a process at once; it stays away until `revive`."""
        self._ended_by_us.add(name)
        await anyio.to_thread.run_sync(self.processes[name].kill)

    async def stop(self, name: str) -> None:
        """End a process calmly; it stays away until `revive`. One that does not end in time is killed, and noted."""
        self._ended_by_us.add(name)
        try:
            await anyio.to_thread.run_sync(self.processes[name].stop)
        except AssertionError:
            self.stubborn.append(Death(name, self.processes[name].log_tail()))
            self._say(f"{name} has not ended when asked to, and was killed")

    async def revive(self, name: str) -> None:
        """Start a process that was ended, and return when it is ready or has had time enough."""
        self.processes[name].launch()  # here and not in a thread: a child ends with the thread that started it
        self._ended_by_us.discard(name)
        await self.ready(name)

    async def ready(self, name: str, timeout_s: float = READY_TIMEOUT_S) -> bool:
        """Return when a process can be used, or False when it cannot in time."""
        with anyio.move_on_after(timeout_s):
            while not await self._answers(name):  # noqa: ASYNC110 - another process, which rings no bell
                await anyio.sleep(_POLL_S)
            return True
        return False

    async def all_ready(self) -> tuple[str, ...]:
        """Wait until everything is ready, and return the names of those that are not in time."""
        late: list[str] = []

        async def wait(name: str) -> None:
            if not await self.ready(name):
                late.append(name)

        async with anyio.create_task_group() as tasks:
            for name in self.processes:
                tasks.start_soon(wait, name)
        return tuple(late)

    async def _answers(self, name: str) -> bool:
        process = self.processes[name]
        if not isinstance(process, Service):
            return await anyio.to_thread.run_sync(process.answers)
        try:
            return (await self._http.get(process.spec.ready_url)).is_success
        except httpx.HTTPError:
            return False

    # -- start and end -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything; return when all of it is ready."""
        self._point_at_links()
        write_config(self.stack.config, self.stack.settings)
        services = [name for name, process in self.processes.items() if isinstance(process, Service)]
        await self._launch([name for name in self.processes if name not in services])
        await anyio.to_thread.run_sync(partial(anyio.run, migrate, self.stack.settings))
        await self._launch(services)

    async def end(self) -> None:
        """Kill whatever still runs."""
        for process in self.processes.values():
            if process.launched and not process.ended:
                await anyio.to_thread.run_sync(process.kill)
        await self._http.aclose()

    async def supervise(self) -> None:
        """Start again what has ended by itself; never return."""
        while True:
            await anyio.sleep(_POLL_S)
            for name, process in self.processes.items():
                if process.ended and name not in self._ended_by_us:
                    self.deaths.append(Death(name, process.log_tail()))
                    self._say(f"{name} has ended by itself and is started again")
                    process.launch()

    async def follow_primary(self) -> None:
        """Let the links to Redis lead to the primary, wherever it goes; never return."""
        assert self.sentinels is not None
        while True:
            await anyio.sleep(_POLL_S)
            port = await self.sentinels.primary_port()
            if port is None or port == self.links["producers>redis"].target_port:
                continue
            for name, link in self.links.items():
                if name.endswith(">redis"):
                    link.lead_to(port)
            self.switches += 1
            self._say(f"the primary is now {self.primary}")

    def _point_at_links(self) -> None:
        for name in ("collect", "dispatch"):
            self.stack.another(name, f"{name}-2")
            self.stack.set(name, worker=name)
        for edge, url in zip(EDGES, self.edge_urls, strict=True):
            self.stack.set(edge, edge_address=url.removesuffix("/v1/connect"))
        settings = {"redis": "redis_url", "store": "mongo_url", "auth": "auth_url"}
        for link in self.links:
            who, _, server = link.partition(">")
            if who in self.stack.processes:
                self.stack.set(who, **{settings[server]: self._url(who, server)})

    async def _launch(self, names: Sequence[str]) -> None:
        for name in names:
            self.processes[name].launch()
        with anyio.fail_after(READY_TIMEOUT_S):
            for name in names:
                await self._get_ready(name)

    async def _get_ready(self, name: str) -> None:
        while not await self._answers(name):
            if self.processes[name].ended:
                raise RuntimeError(f"{name} has ended:\n{self.processes[name].log_tail()}")
            await anyio.sleep(_POLL_S)


@asynccontextmanager
async def standing(stand: Stand) -> AsyncIterator[Stand]:
    """Have the system running, supervised, and ended whatever happens."""
    async with AsyncExitStack() as exits:
        for link in stand.links.values():
            await exits.enter_async_context(link)
        try:
            await stand.start()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stand.supervise)
                if stand.sentinels is not None:
                    tasks.start_soon(stand.follow_primary)
                yield stand
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await stand.end()
