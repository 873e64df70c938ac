"""All of Pushway for one test, on free ports: the processes that `pushway up` would run, each one in the test's hands.

    with Stack(tmp_path, edges=2, settings={"lease_ms": 1_000}) as stack:
        stack["collect"].kill()
        stack["collect"].start()

The plan is the one of `up`, so what is tested is what runs. Nothing is started again by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Literal, Self, cast

import anyio
import httpx
import pymongo
from redis import Redis
from redis.cluster import ClusterNode, RedisCluster

from router.migrate import migrate
from router.redis_url import read_url
from router.settings import Settings
from router.up.folder import Kept, write_config
from router.up.plan import Plan, Request, Spec, make_plan
from tests.servers import DebianRedis, EmbeddedValkey, Process, Server, Store, free_ports

API_KEY = "stack-api-key-" + "k" * 32

_PORTS = 30  # what a plan takes from --port-base on, and two for the servers


class Service(Process):
    """One of auth, collect, dispatch and the edges; it answers when its /readyz says so."""

    def __init__(self, spec: Spec, plan: Plan) -> None:
        super().__init__(spec.name, plan.log(spec.name))
        self.spec = spec

    def command(self) -> list[str]:
        """Return the command line."""
        return list(self.spec.command)

    @property
    def ops_url(self) -> str:
        """Where its /livez, /readyz and /metrics are."""
        return self.spec.ready_url.removesuffix("/readyz")

    def answers(self) -> bool:
        """Tell whether it is ready."""
        try:
            return httpx.get(self.spec.ready_url, timeout=1.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def metric(self, name: str) -> float:
        """Return a figure of its /metrics, labels included in the name if there are any."""
        text = httpx.get(f"{self.ops_url}/metrics", trust_env=False).text
        return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.rpartition(" ")[0] == name)

    def figure(self, name: str) -> float | None:
        """Return a metric, or None while it is not there."""
        try:
            return self.metric(name)
        except StopIteration:
            return None


class Stack:
    """The servers `redis` and `store`, and the services by name: `stack["edge-1"]`.

    Args:
        folder: for all data and logs.
        redis: the embedded Valkey, the machine's redis-server, or a server that the caller has made.
        redis_options: further words of its command line, such as `--maxmemory`.
        redis_url: a Redis that runs already, and goes on running; there is no server `redis` then.
        store: a server in the place of the embedded store.
        edges: how many.
        settings: settings that shall not have their defaults; the test's own small timeouts above all.
    """

    def __init__(
        self,
        folder: Path,
        *,
        redis: Literal["valkey", "redis-server"] | Server = "valkey",
        redis_options: tuple[str, ...] = (),
        redis_url: str | None = None,
        store: Server | None = None,
        edges: int = 2,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        base = free_ports(_PORTS)
        redis_port, mongo_port = base + _PORTS - 2, base + _PORTS - 1
        if isinstance(redis, Server):
            redis_port = redis.port
        if store is not None:
            mongo_port = store.port
        request = Request(
            data=folder, port_base=base, redis_port=redis_port, mongo_port=mongo_port, edges=edges, redis_url=redis_url
        )
        self.plan = make_plan(request, Settings.model_validate(dict(settings or {})), Kept(API_KEY))
        if not isinstance(redis, Server):
            kind = EmbeddedValkey if redis == "valkey" else DebianRedis
            redis = kind(folder / "redis", *redis_options, port=redis_port)
        self._servers: dict[str, Server] = {} if redis_url else {"redis": redis}
        self._servers["store"] = store or Store(folder / "store", port=mongo_port)
        self._services = {spec.name: Service(spec, self.plan) for spec in self.plan.core + self.plan.edges}

    @property
    def settings(self) -> Settings:
        """What all services share."""
        return self.plan.settings

    @property
    def config(self) -> Path:
        """The settings file, for commands."""
        return self.plan.config

    @property
    def edge_urls(self) -> tuple[str, ...]:
        """Where clients connect."""
        return self.settings.edge_urls

    @property
    def processes(self) -> dict[str, Process]:
        """All of it by name, in the order of the start."""
        return {**self._servers, **self._services}

    def __getitem__(self, name: str) -> Service:
        return self._services[name]

    def another(self, name: str, as_name: str, **settings: object) -> Service:
        """Add a second process of a service, such as a standby, under a name of its own; it is not started yet."""
        spec, port = self._services[name].spec, free_ports()
        own = {"worker": as_name, "ops_port": port, "api_port": 0, **settings}
        words = [word for setting, value in own.items() for word in ("--set", f"{setting}={value}")]
        again = Spec(as_name, (*spec.command, *words), f"http://127.0.0.1:{port}/readyz")
        self._services[as_name] = Service(again, self.plan)
        return self._services[as_name]

    def set(self, name: str, **own: object) -> None:
        """Give a service that is not started yet settings of its own, such as a `redis_url` that leads through a proxy."""
        spec = self._services[name].spec
        words = [word for setting, value in own.items() for word in ("--set", f"{setting}={value}")]
        self._services[name] = Service(Spec(name, (*spec.command, *words), spec.ready_url), self.plan)

    @property
    def redis(self) -> Server:
        """The Redis or Valkey."""
        return self._servers["redis"]

    @property
    def store(self) -> Server:
        """The MongoDB-compatible store."""
        return self._servers["store"]

    def start(self) -> Self:
        """Start everything and wait until all of it is ready."""
        write_config(self.config, self.settings)
        for process in self._servers.values():
            process.launch()
        for process in self._servers.values():
            process.wait_ready()
        # In a thread, because a loop may be running in this one.
        thread = Thread(target=anyio.run, args=(migrate, self.settings))
        thread.start()
        thread.join()
        for service in self._services.values():
            service.launch()
        for service in self._services.values():
            service.wait_ready()
        return self

    def end(self) -> None:
        """Kill whatever still runs."""
        for process in self.processes.values():
            if process.launched and not process.ended:
                process.kill()

    def redis_client(self) -> Redis:
        """Return a blocking client; use it in a `with`."""
        told = read_url(self.settings.redis_url)
        if told.cluster:
            nodes = [ClusterNode(*address) for address in told.addresses]  # type: ignore[no-untyped-call]
            return cast(Redis, RedisCluster(startup_nodes=nodes, protocol=2))
        return Redis.from_url(told.driver_url, protocol=2)

    def mongo_client(self) -> pymongo.MongoClient[dict[str, Any]]:
        """Return a blocking client; use it in a `with`."""
        return pymongo.MongoClient(self.settings.mongo_url, tz_aware=True)

    def token(self, user: str, **more: object) -> str:
        """Return a token from auth."""
        answer = httpx.post(
            f"{self.settings.auth_url}/v1/tokens",
            json={"user": user, **more},
            headers={"authorization": f"Bearer {API_KEY}"},
            trust_env=False,
        )
        token: str = answer.raise_for_status().json()["token"]
        return token

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.end()
            raise

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.end()
