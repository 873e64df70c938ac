"""A Redis that fails over: a primary, a replica and three sentinels of Debian's redis-server, and who is the primary now.

The services know nothing of Sentinel: they reach "Redis" through links, which follow the primary. So it is in many places in
production, where a balancer or a virtual IP follows it.

Source: https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import redis
from redis.asyncio import Redis

from router.redis_client import OUTAGE
from router.up.embedded import redis_options
from tests.servers import DebianRedis, Process, free_ports

DOWN_AFTER_MS: Final = 1_000
"""A primary silent for this long counts as dead."""

FAILOVER_TIMEOUT_MS: Final = 3_000
"""After twice this time a failover that came to nothing is tried again."""

_NAME: Final = "pushway"
_SENTINELS: Final = 3
_QUORUM: Final = 2
_ASK_TIMEOUT_S: Final = 0.5


class ReplicatedRedis(DebianRedis):
    """A redis-server with a configuration file, in which the sentinels write down whose replica it is.

    Args:
        folder: for its data and the file.
        options: further options, as on the command line.
        port: where it listens; None for any free one.
        primary_port: whose replica it is at first; None for a primary.
    """

    def __init__(self, folder: Path, *options: str, port: int | None = None, primary_port: int | None = None) -> None:
        super().__init__(folder, *options, port=port)
        replica_of = () if primary_port is None else ("--replicaof", "127.0.0.1", str(primary_port))
        # Otherwise a primary lets its replica wait for 5 s, in case another one comes.
        replicating = ("--repl-diskless-sync-delay", "0", *replica_of)
        self._config = folder / "redis.conf"
        self._config.write_text(_as_file([*redis_options(self.port, folder), *options, *replicating]), encoding="utf-8")

    def command(self) -> list[str]:
        """Return the command line."""
        return ["redis-server", str(self._config)]


class Sentinel(Process):
    """One sentinel."""

    def __init__(self, name: str, folder: Path, primary_port: int) -> None:
        super().__init__(name, folder / "server.log")
        self.port = free_ports()
        self._config = folder / "sentinel.conf"
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {folder}",
            f"sentinel monitor {_NAME} 127.0.0.1 {primary_port} {_QUORUM}",
            f"sentinel down-after-milliseconds {_NAME} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {_NAME} {FAILOVER_TIMEOUT_MS}",
        ]
        self._config.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def command(self) -> list[str]:
        """Return the command line."""
        return ["redis-server", str(self._config), "--sentinel"]

    def answers(self) -> bool:
        """Tell whether it knows the other sentinels and the replica, so that a failover can be had."""
        with redis.Redis(port=self.port, protocol=2, socket_timeout=1.0) as client:
            try:
                (known,) = client.sentinel_masters().values()
            except redis.RedisError:
                return False
        return bool(known["num-other-sentinels"] == _SENTINELS - 1 and known["num-slaves"] == 1)


class Sentinels:
    """The three of them, asked together: one alone may be wrong."""

    def __init__(self, sentinels: Sequence[Sentinel]) -> None:
        self._sentinels = sentinels

    async def primary_port(self) -> int | None:
        """Return the port of the server that most of them call the primary; None when they disagree or do not answer."""
        ports: list[int | None] = [None] * len(self._sentinels)

        async def ask(at: int) -> None:
            ports[at] = await _primary_according_to(self._sentinels[at].port)

        async with anyio.create_task_group() as tasks:
            for at in range(len(self._sentinels)):
                tasks.start_soon(ask, at)
        return majority(ports, _QUORUM)

    async def fail_over(self) -> bool:
        """Ask for a failover although the primary is well; return whether a sentinel has begun one."""
        async with _client(self._sentinels[0].port) as client:
            try:
                return bool(await client.sentinel_failover(_NAME))
            except OUTAGE:
                return False


def replicated(folder: Path, *options: str) -> tuple[ReplicatedRedis, ReplicatedRedis, tuple[Sentinel, ...]]:
    """Return a primary, its replica and their sentinels, none of them started."""
    primary = ReplicatedRedis(folder / "redis", *options)
    replica = ReplicatedRedis(folder / "redis-2", *options, primary_port=primary.port)
    names = [f"sentinel-{n}" for n in range(1, _SENTINELS + 1)]
    return primary, replica, tuple(Sentinel(name, folder / name, primary.port) for name in names)


def majority(ports: Iterable[int | None], least: int) -> int | None:
    """Return the port that at least `least` name; None when there is no such port."""
    counted = Counter(port for port in ports if port is not None)
    return next((port for port, votes in counted.items() if votes >= least), None)


async def _primary_according_to(port: int) -> int | None:
    async with _client(port) as client:
        try:
            address = await client.sentinel_get_master_addr_by_name(_NAME)
        except OUTAGE:
            return None
    return int(address[1]) if isinstance(address, tuple) else None


@asynccontextmanager
async def _client(port: int) -> AsyncIterator[Redis]:
    client = Redis(port=port, protocol=2, socket_timeout=_ASK_TIMEOUT_S, socket_connect_timeout=_ASK_TIMEOUT_S)
    try:
        yield client
    finally:
        # The driver's own `async with` is cut off by a cancellation and leaves its connection open, which is then found in
        # whatever test the garbage is collected in. Closing is bounded by the connect timeout.
        with anyio.CancelScope(shield=True):
            await client.aclose()


def _as_file(words: Sequence[str]) -> str:
    """Return command line options as the lines of a configuration file."""
    text = " ".join(word or '""' for word in words)
    return "\n".join(part.strip() for part in text.split("--") if part) + "\n"
