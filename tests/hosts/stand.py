"""All of Pushway on several hosts: the real processes, each in the network namespace of its host; see `lan`.

    redis ── redis-server, store, auth        worker-1, worker-2 ── collect, dispatch        edge-1, edge-2 ── edge
    clients ── a crowd of tests.chaos: devices and producers

    with Stand(folder) as stand:
        verdict = stand.play("a", Cut("edge cut", "edge-1", lambda: stand.lan.cut("edge-1", "redis")))

While a crowd is at it something happens to a line; when it is healed everybody must get all that is owed, once and in order.
Nothing is started again: a process that ends is a failure.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import anyio
import httpx
import pymongo
from redis import Redis

from router.keys import Keys
from router.migrate import migrate
from router.settings import Settings
from router.up.folder import write_config
from tests.chaos.checker import PROMPT_S, Verdict, check
from tests.chaos.crowd import Crowd, CrowdSize, Links
from tests.chaos.history import ACCEPTED_FIELDS, Accepted, FaultBegan, FaultEnded, History
from tests.chaos.recovery import recoveries
from tests.chaos.stand import SETTINGS
from tests.hosts.lan import Host, Lan
from tests.servers import DebianRedis, Process, Store, wait_until

REDIS: Final = "redis"
WORKERS: Final = ("worker-1", "worker-2")
EDGES: Final = ("edge-1", "edge-2")
CLIENTS: Final = "clients"

SHARDS: Final = 2
ROLES: Final = ("collect", "dispatch")

SIZE: Final = CrowdSize(users=12, devices_a_user=2, producers=4, rate_per_s=60.0, steady=1.0, stops_reading=0.0)
"""Devices stay, so that all who are delayed are delayed by what happens to the line."""

BEFORE_S: Final = 2.0
AFTER_S: Final = 1.0
"""How long the traffic goes on before something happens and when it is over."""

SETTLE_TIMEOUT_S: Final = 40.0
OWNERS_TIMEOUT_S: Final = 15.0

_API_KEY: Final = "hosts-api-key-" + "k" * 32
_REDIS_PORT, _STORE_PORT, _AUTH_PORT, _EDGE_PORT = 6379, 27017, 8001, 8002
_OPS_PORTS: Final = {"auth": 9001, "collect": 9002, "dispatch": 9003, "edge": 9004}
_OPEN_REDIS: Final = ("--bind", "0.0.0.0", "--protected-mode", "no", "--appendfsync", "always")  # noqa: S104 - nobody else there


@dataclass(frozen=True, slots=True)
class Cut:
    """Something that happens to a line.

    Attributes:
        kind: what it is called in the figures.
        host: whose line.
        strike: does it; `Lan.heal` undoes it.
        meanwhile: what is done or waited for before that, in a thread.
    """

    kind: str
    host: str
    strike: Callable[[], None]
    meanwhile: Callable[[], None]


class OnHost(Process):
    """A process that runs on a host; it is asked from there whether it answers."""

    def __init__(self, process: Process, host: Host) -> None:
        super().__init__(f"{process.name} on {host.name}", process.log)
        self._process_there = process
        self._host = host

    def command(self) -> list[str]:
        """Return the command line."""
        return self._host.command(*self._process_there.command())

    def answers(self) -> bool:
        """Tell whether it can be used now."""
        return self._host.run(self._process_there.answers)


class Service(Process):
    """One of auth, collect, dispatch and edge."""

    def __init__(self, service: str, folder: Path, config: Path, own: Mapping[str, object]) -> None:
        super().__init__(service, folder / f"{service}.log")
        self._config = config
        self._own = own

    def command(self) -> list[str]:
        """Return the command line."""
        words = [word for setting, value in self._own.items() for word in ("--set", f"{setting}={value}")]
        return [sys.executable, "-P", "-m", "router.commands", self.name, "--config", str(self._config), *words]

    def answers(self) -> bool:
        """Tell whether its /readyz says so."""
        url = f"http://{self._own['ops_host']}:{self._own['ops_port']}/readyz"
        try:
            return httpx.get(url, timeout=1.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False


class Stand:
    """The running system; use it in a `with`, which ends all of it whatever happens.

    Args:
        folder: for all data and logs.

    Attributes:
        lan: the hosts.
        settings: what all services share.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.lan = Lan(folder, (REDIS, *WORKERS, *EDGES, CLIENTS), wired=REDIS)
        self.settings = self._make_settings()
        self._servers = self._make_servers()
        self._services = [self._place("auth", REDIS, auth_host=self.lan[REDIS].address)]
        self._services += [self._place(role, name, worker=name) for name in WORKERS for role in ROLES]
        self._services += [self._place("edge", name, node=name, edge_host=self.lan[name].address) for name in EDGES]

    @property
    def processes(self) -> tuple[Process, ...]:
        """All of them, in the order of the start."""
        return (*self._servers, *self._services)

    def play(self, name: str, cut: Cut) -> Verdict:
        """Return what the checker says of a crowd to whose hosts something happened; prints how long it was felt.

        Args:
            name: begins the names of the crowd's users; no other has it.
            cut: what happens.
        """
        history, accepted = self.lan[CLIENTS].run(
            partial(anyio.run, self._play, name, cut, backend_options={"use_uvloop": True})
        )
        verdict = check(history, accepted)
        longest_s = max(recoveries(history, PROMPT_S).latencies_s, default=0.0)
        print(f"\n{_line(cut, verdict, longest_s)}")  # noqa: T201 - a figure for who asks with -s
        for process in self.processes:
            assert not process.ended, f"{process.name} has ended:\n{process.log_tail()}"
        return verdict

    def owners(self) -> set[str]:
        """Return the hosts that hold a lease now, of whatever role and shard; "" is among them where one is free."""
        return self.lan[REDIS].run(self._read_owners)

    def cut_off(self, name: str) -> None:
        """Lose whatever Redis' host and another send to each other."""
        self.lan.cut(name, REDIS)

    def deafen(self, name: str) -> None:
        """Lose whatever Redis' host sends to another, which it goes on to hear."""
        self.lan.lose(REDIS, name)

    def wait_owners(self, *names: str) -> None:
        """Return when these hosts hold all leases, each at least one; blocks."""
        wait_until(lambda: self.owners() == set(names), f"{' and '.join(names)} hold all leases", OWNERS_TIMEOUT_S)

    def wait_ready(self) -> None:
        """Return when everything is ready; blocks."""
        for process in self.processes:
            process.wait_ready()

    def log(self, service: str, host: str) -> str:
        """Return what a service has printed."""
        return (self._folder / host / f"{service}.log").read_text(encoding="utf-8")

    # -- a play ------------------------------------------------------------------------------------------------------

    async def _play(self, name: str, cut: Cut) -> tuple[History, Sequence[Accepted]]:
        history = History()
        edges = tuple(f"ws://{self.lan[edge].address}:{_EDGE_PORT}/v1/connect" for edge in EDGES)
        async with httpx.AsyncClient(trust_env=False, timeout=3.0) as http:
            streams = tuple(Keys(self.settings.prefix, shard).intake() for shard in range(SHARDS))
            links = Links(edges, self.settings.redis_url, partial(self._token, http), streams)
            async with Crowd(links, SIZE, history, 1, name) as crowd:
                await anyio.sleep(BEFORE_S)
                await self._strike(cut, history)
                await anyio.sleep(AFTER_S)
                accepted = await crowd.settle(partial(self._accepted, name), timeout_s=SETTLE_TIMEOUT_S)
        return history, accepted

    async def _strike(self, cut: Cut, history: History) -> None:
        history.note(FaultBegan(history.now(), cut.kind, cut.kind, cut.host, ""))
        await anyio.to_thread.run_sync(cut.strike)
        await anyio.to_thread.run_sync(cut.meanwhile)
        await anyio.to_thread.run_sync(self.lan.heal)
        history.note(FaultEnded(history.now(), cut.kind))

    async def _token(self, http: httpx.AsyncClient, user: str) -> str:
        headers = {"authorization": f"Bearer {_API_KEY}"}
        try:
            answer = await http.post(f"{self.settings.auth_url}/v1/tokens", json={"user": user}, headers=headers)
            token: str = answer.raise_for_status().json()["token"]
        except httpx.HTTPError as exc:
            raise OSError(f"auth: {type(exc).__name__}") from exc
        return token

    async def _accepted(self, name: str) -> Sequence[Accepted]:
        return await anyio.to_thread.run_sync(self._read_inbox, name)

    def _read_inbox(self, name: str) -> Sequence[Accepted]:
        with pymongo.MongoClient[dict[str, Any]](self.settings.mongo_url, tz_aware=True) as mongo:
            found = mongo[self.settings.mongo_database].inbox.find({"id": {"$regex": f"^{name}p"}}, ACCEPTED_FIELDS)
            return [Accepted.of_document(document) for document in found]

    def _read_owners(self) -> set[str]:
        keys = [Keys(self.settings.prefix, shard).lease(role) for shard in range(SHARDS) for role in ROLES]
        with Redis(port=_REDIS_PORT, decode_responses=True, protocol=2) as redis:
            leases = redis.mget(keys)
        # "<worker> <token>"
        return {(lease or "").partition(" ")[0].partition(".")[0] for lease in leases}

    # -- what there is -----------------------------------------------------------------------------------------------

    def _make_settings(self) -> Settings:
        at = self.lan[REDIS].address
        own = {
            "shards": SHARDS,
            "redis_url": f"redis://{at}:{_REDIS_PORT}/0",
            "mongo_url": f"mongodb://{at}:{_STORE_PORT}/?directConnection=true",
            "auth_url": f"http://{at}:{_AUTH_PORT}",
            "auth_port": _AUTH_PORT,
            "auth_key_file": self._folder / "auth-key.pem",
            "api_key": _API_KEY,
            "api_port": 0,
            "edge_port": _EDGE_PORT,
        }
        return Settings.model_validate({**SETTINGS, **own})

    def _make_servers(self) -> list[Process]:
        folder, host = self._folder / REDIS, self.lan[REDIS]
        redis = DebianRedis(folder / "redis", *_OPEN_REDIS, port=_REDIS_PORT)
        store = Store(folder / "store", "--host", "0.0.0.0", port=_STORE_PORT)  # noqa: S104 - as above
        return [OnHost(redis, host), OnHost(store, host)]

    def _place(self, service: str, name: str, **own: object) -> Process:
        host = self.lan[name]
        own |= {"ops_host": host.address, "ops_port": _OPS_PORTS[service]}
        return OnHost(Service(service, self._folder / name, self._folder / "pushway.toml", own), host)

    # -- start and end -----------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start everything; return when all of it is ready."""
        self.lan.start()
        write_config(self._folder / "pushway.toml", self.settings)
        for server in self._servers:
            server.start()
        self.lan[CLIENTS].run(partial(anyio.run, migrate, self.settings))
        for service in self._services:
            service.launch()
        self.wait_ready()
        return self

    def end(self) -> None:
        """Kill whatever still runs, and take the hosts away."""
        try:
            for process in self.processes:
                if process.launched and not process.ended:
                    process.kill()
        finally:
            self.lan.end()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.end()
            raise

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.end()


def _line(cut: Cut, verdict: Verdict, longest_s: float) -> str:
    figures, (felt,) = verdict.figures, verdict.recoveries
    said = f"{cut.kind}: lasted {felt.ended_s - felt.began_s:.1f} s; {len(felt.after_s)} of {figures.devices} devices delayed"
    if felt.max_s is not None:
        said += f", all had caught up {felt.max_s:.1f} s after it began, {felt.since_end(felt.max_s):.1f} s after it ended"
    said += f"; {figures.deliveries} deliveries, {figures.latency_p50_s * 1000:.0f} ms (p50) to {longest_s:.1f} s"
    return f"{said}; {figures.cuts} connections cut; {'all is well' if verdict.green else dict(verdict.counts)}"
