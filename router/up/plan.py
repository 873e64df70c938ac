"""What `pushway up` runs, and where: values in, values out.

    --port-base N   N      API (collect)         N+10  ops port of collect
                    N+1    auth                  N+11  … of dispatch
                    N+2 …  edge-1, edge-2 …      N+12  … of auth
                                                 N+13 … of edge-1, edge-2 …

The settings that all children share go to a file; what differs from child to child stands on its command line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from router.errors import SettingError, SetupError
from router.settings import Settings
from router.tls.certificate import Unfit, read_pair
from router.up.embedded import HOST, redis_command, store_command
from router.up.folder import Kept

PORT_BASE: Final = 8000
REDIS_PORT: Final = 6390
MONGO_PORT: Final = 27090
EDGES: Final = 2
DATA: Final = Path(".pushway")

EDGES_MAX: Final = 8
"""Edges have the ports between N+2 and the first ops port, N+10."""

CONFIG_NAME: Final = "pushway.toml"

_FILES: Final = {
    *("edge_tls_cert_file", "edge_tls_key_file", "http_tls_cert_file", "http_tls_key_file"),
    *("redis_ca_file", "mongo_ca_file", "http_ca_file"),
}
"""Settings that name a file, from the folder that `up` was started in."""

PORT_BASE_MAX: Final = 65_500
"""Leaves room for every port above it."""

_DRAIN_TIMEOUT_S: Final = 1.0  # nobody stays connected elsewhere: the whole of it is being stopped


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of `up`.

    Attributes:
        data: folder for all that is kept.
        redis_url: a Redis to use instead of the embedded one.
        mongo_url: a MongoDB to use instead of the embedded store.
    """

    data: Path = DATA
    port_base: int = PORT_BASE
    redis_port: int = REDIS_PORT
    mongo_port: int = MONGO_PORT
    edges: int = EDGES
    redis_url: str | None = None
    mongo_url: str | None = None


@dataclass(frozen=True, slots=True)
class Spec:
    """One child: what it is called, how it is started, how to tell that it is ready.

    Attributes:
        name: for people, and the name of its log.
        ready_url: ready when this answers: `http:` with 200, `redis:` and `mongodb:` a ping.
    """

    name: str
    command: tuple[str, ...]
    ready_url: str


@dataclass(frozen=True, slots=True)
class Port:
    """A port that must be free, what it is for, and the flag that chooses another."""

    number: int
    use: str
    flag: str


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it. The groups are started in the order of the fields, and stopped in the reverse order.

    Attributes:
        settings: what all children share, and what is written to `config`.
        servers: the embedded Redis and store, as far as they are wanted.
        core: auth, dispatch and collect.
        given_urls: servers that are used but not started.
    """

    data: Path
    settings: Settings
    servers: tuple[Spec, ...]
    core: tuple[Spec, ...]
    edges: tuple[Spec, ...]
    ports: tuple[Port, ...]
    given_urls: tuple[str, ...]

    @property
    def config(self) -> Path:
        """The settings file."""
        return self.data / CONFIG_NAME

    @property
    def children(self) -> tuple[Spec, ...]:
        """Every child, in the order of the start."""
        return self.servers + self.core + self.edges

    def log(self, name: str) -> Path:
        """Return the file that takes what a child prints."""
        return self.data / "logs" / f"{name}.log"


def make_plan(request: Request, settings: Settings, kept: Kept) -> Plan:
    """Return what to run.

    Args:
        request: what is asked.
        settings: those that `up` does not decide itself.
        kept: what earlier starts decided, unless `settings` says otherwise.

    Raises:
        SettingError: when two things are to have one port, or `settings` has what `up` decides.
        SetupError: when an embedded server is wanted and not installed.
    """
    data = request.data.absolute()
    ports = tuple(_ports(request))
    _refuse_shared(ports)
    servers = tuple(_servers(request, data))
    return Plan(
        data=data,
        settings=_shared_settings(request, settings, data, kept),
        servers=servers,
        core=tuple(_core(request, data)),
        edges=tuple(_edges(request, settings, data)),
        ports=ports,
        given_urls=tuple(url for url in (request.redis_url, request.mongo_url) if url),
    )


def _edge_ports(request: Request) -> range:
    return range(request.port_base + 2, request.port_base + 2 + request.edges)


def _ops_ports(request: Request) -> dict[str, int]:
    names = ["collect", "dispatch", "auth", *(f"edge-{n}" for n in range(1, request.edges + 1))]
    return {name: request.port_base + 10 + n for n, name in enumerate(names)}


def _ports(request: Request) -> Iterator[Port]:
    yield Port(request.port_base, "API", "--port-base")
    yield Port(request.port_base + 1, "auth", "--port-base")
    for n, port in enumerate(_edge_ports(request), start=1):
        yield Port(port, f"edge-{n}", "--port-base")
    for name, port in _ops_ports(request).items():
        yield Port(port, f"ops port of {name}", "--port-base")
    if request.redis_url is None:
        yield Port(request.redis_port, "Redis", "--redis-port")
    if request.mongo_url is None:
        yield Port(request.mongo_port, "MongoDB", "--mongo-port")


def _refuse_shared(ports: tuple[Port, ...]) -> None:
    seen: dict[int, Port] = {}
    for port in ports:
        other = seen.setdefault(port.number, port)
        if other is not port:
            raise SettingError(port.flag, "flag", f"port {port.number} would be both {other.use} and {port.use}")


def _redis_url(request: Request) -> str:
    return request.redis_url or f"redis://{HOST}:{request.redis_port}/0"


def _mongo_url(request: Request) -> str:
    # Directly: there is no other server, so the driver need not look for one.
    return request.mongo_url or f"mongodb://{HOST}:{request.mongo_port}/?directConnection=true"


def _ready_url(ops_port: int) -> str:
    return f"http://{HOST}:{ops_port}/readyz"


def _shared_settings(request: Request, settings: Settings, data: Path, kept: Kept) -> Settings:
    ops = _ops_ports(request)
    decided: dict[str, object] = {
        "redis_url": _redis_url(request),
        "mongo_url": _mongo_url(request),
        "api_host": HOST,
        "api_port": request.port_base,
        "api_ready_urls": tuple(_ready_url(port) for name, port in ops.items() if name != "collect"),
        "auth_host": HOST,
        "auth_port": request.port_base + 1,
        "auth_url": _address(settings, "http", request.port_base + 1),
        "edge_host": HOST,
        "edge_urls": tuple(_address(settings, "edge", port) + "/v1/connect" for port in _edge_ports(request)),
        "ops_host": HOST,
        # Each edge and each ops port has its own, on its command line.
        **{name: Settings.model_fields[name].default for name in ("node", "edge_port", "ops_port")},
    }
    asked = settings.model_dump(include=settings.model_fields_set)
    # Children have another working folder.
    asked |= {name: str(Path(asked[name]).absolute()) for name in _FILES & asked.keys() if asked[name]}
    for name in decided.keys() & asked.keys():
        if asked[name] != decided[name]:
            raise SettingError(name, "pushway up", "`up` decides it; see --port-base, --redis, --mongo and --edges")
    # Unlike what is decided, these are only better defaults.
    preferred = {
        "api_key": kept.api_key,
        "shards": kept.shards or Settings.model_fields["shards"].default,
        "auth_key_file": data / "auth-key.pem",
        "drain_timeout_s": _DRAIN_TIMEOUT_S,
        "api_page": True,
    }
    return Settings.model_validate(preferred | asked | decided)


def _address(settings: Settings, door: Literal["http", "edge"], port: int) -> str:
    """Return how clients reach a door.

    Raises:
        SetupError: when its certificate is for no name of this machine, or cannot be used.
    """
    plain, over_tls = {"http": ("http", "https"), "edge": ("ws", "wss")}[door]
    if getattr(settings, f"{door}_tls_cert_file"):
        return f"{over_tls}://{_name_of_ours(settings, door)}:{port}"
    return f"{plain}://{HOST}:{port}"


def _name_of_ours(settings: Settings, door: Literal["http", "edge"]) -> str:
    """Return a name of this machine that the certificate of a door is for.

    Raises:
        SetupError: when it is for none of them, or cannot be used.
    """
    cert_file, key_file = getattr(settings, f"{door}_tls_cert_file"), getattr(settings, f"{door}_tls_key_file")
    try:
        names = read_pair(Path(cert_file), Path(key_file)).names
    except Unfit as exc:
        raise SetupError(f"{door}_tls_cert_file and {door}_tls_key_file cannot be used: {exc}.") from exc
    for name in (HOST, "localhost"):
        if name in names:
            return name
    shown = ", ".join(names) or "nobody"
    raise SetupError(
        f"{door}_tls_cert_file is for {shown}: `up` serves this machine, so it must name {HOST} or localhost, too."
    )


def _servers(request: Request, data: Path) -> Iterator[Spec]:
    if request.redis_url is None:
        yield Spec("redis", tuple(redis_command(request.redis_port, data / "redis")), _redis_url(request))
    if request.mongo_url is None:
        yield Spec("store", tuple(store_command(request.mongo_port, data / "store")), _mongo_url(request))


def _core(request: Request, data: Path) -> Iterator[Spec]:
    ops = _ops_ports(request)
    for name in ("auth", "dispatch", "collect"):
        yield _service(name, name, data, ops_port=ops[name])


def _edges(request: Request, settings: Settings, data: Path) -> Iterator[Spec]:
    ops = _ops_ports(request)
    for n, port in enumerate(_edge_ports(request), start=1):
        name = f"edge-{n}"
        # What it would say by itself is its address, which need not be what its certificate is for.
        address = {"edge_address": _address(settings, "edge", port)} if settings.edge_tls_cert_file else {}
        yield _service(name, "edge", data, node=name, edge_port=port, ops_port=ops[name], **address)


def _service(name: str, service: str, data: Path, **own: str | int) -> Spec:
    # -P: the working folder is the data folder, and no place to import from.
    command = [sys.executable, "-P", "-m", "router.commands", service, "--config", str(data / CONFIG_NAME)]
    for setting, value in own.items():
        command += ["--set", f"{setting}={value}"]
    return Spec(name, tuple(command), _ready_url(int(own["ops_port"])))
