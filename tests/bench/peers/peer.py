"""What all peers have in common: processes on free ports, a Redis of their own, and the readings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import psutil

from tests.bench.dialect import Dialect, Lane, user_name
from tests.bench.generator import Generator
from tests.servers import EmbeddedValkey, Process, free_ports, port_is_free


class PeerServer(Process):
    """A peer's own process."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer.title, peer.folder / "peer.log")
        self._command, self._peer = peer.command(), peer

    def command(self) -> list[str]:
        """Return the command line."""
        return self._command

    def answers(self) -> bool:
        """Tell whether it can be used now."""
        return self._peer.answers()

    def kill(self) -> None:
        """End it and the processes that it has started, which would outlive it (nginx's workers do)."""
        children = [] if self.ended else psutil.Process(self.pid).children(recursive=True)
        super().kill()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()


class Peer(ABC):
    """A running peer.

    Args:
        folder: for its data and logs.

    Attributes:
        name: in the report's file.
        title: in its tables.
        dialect: how it is spoken to.
        with_redis: whether it has a Redis between its producers and itself.
        port: where clients connect.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    dialect: ClassVar[Dialect]
    with_redis: ClassVar[bool] = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_ports(2)
        self.redis = EmbeddedValkey(folder / "redis") if self.with_redis else None
        self._running = ExitStack()

    @abstractmethod
    def command(self) -> list[str]:
        """Install it where need be, write what it wants configured, and return its command line.

        Raises:
            SkippedError: when it cannot be had here.
        """

    @abstractmethod
    def publication(self, body: str, room: str) -> bytes:
        """Return what a producer sends to have a body delivered to a room: a user's name, or "" for all."""

    def answers(self) -> bool:
        """Tell whether it can be used now: it listens, unless a peer says otherwise."""
        return not port_is_free(self.port)

    @property
    def publish(self) -> str:
        """Where a producer sends it."""
        assert self.redis is not None, "it publishes elsewhere"
        return f"127.0.0.1:{self.redis.port}"

    def stream(self, lane: str) -> Lane:
        """Return how it is published to: lane `user` or `all`."""
        room = "" if lane == "all" else user_name(0)
        return lambda body, _transient: [self.publication(body, room)]

    def generator(self, users: int) -> Generator:
        """Return a generator for that many users, not started yet."""
        names = [user_name(number) for number in range(users)]
        return Generator(self.dialect, self.publish, [f"127.0.0.1:{self.port}"], names)

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds of Redis and of the peer's own processes."""
        redis = {"redis": _cpu_s(psutil.Process(self.redis.pid))} if self.redis else {}
        return {**redis, "edge": sum(_cpu_s(process) for process in self._processes())}

    def edge_bytes(self) -> int:
        """Return the memory of its own processes (Pss)."""
        return sum(process.memory_full_info().pss for process in self._processes())

    def redis_bytes(self) -> int:
        """Return the memory that Redis says it uses."""
        if self.redis is None:
            return 0
        with self.redis.client() as client:
            return int(client.info("memory")["used_memory"])

    def _processes(self) -> list[psutil.Process]:
        parent = psutil.Process(self._server.pid)
        return [parent, *parent.children(recursive=True)]

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            if self.redis is not None:
                starting.enter_context(self.redis)
            self._server = starting.enter_context(PeerServer(self))
            self._running = starting.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._running.close()


MakePeer = Callable[[Path], Peer]


def _cpu_s(process: psutil.Process) -> float:
    user, system, *_ = process.cpu_times()
    return float(user + system)
