"""Real servers for tests: the embedded Valkey and store, and the machine's redis-server.

Each has a port and a folder of its own, answers when `start` returns, and ends with the test run whatever happens to it.
A restart keeps port and data. All calls block, and are quick enough to be made from asynchronous tests too.
"""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pymongo
import redis

from router.up.children import spawn
from router.up.embedded import redis_command, redis_options, store_command

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
_POLL_S = 0.02

# Below the range that the kernel gives to outgoing connections (from 32768): such a port could be taken by any
# connection between a server's stop and its restart.
_PORTS = range(15_000, 32_000)


def port_is_free(port: int) -> bool:
    """Tell whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count: int = 1) -> int:
    """Return the first of `count` free ports in a row."""
    # A generator of its own, seeded by the system: pytest-randomly seeds the shared one, and runs side by side would agree.
    choose = random.SystemRandom().randrange
    while True:
        first = choose(_PORTS.start, _PORTS.stop - count)
        if all(port_is_free(port) for port in range(first, first + count)):
            return first


class Server(ABC):
    """A server process on a free port, with its data in `folder`.

    Attributes:
        port: where it listens on 127.0.0.1; the same after every restart.
        url: how a driver reaches it.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.options = options
        self.port = free_ports()
        self.log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """How a driver reaches it."""

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the command line."""

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether it serves commands now."""

    @property
    def pid(self) -> int:
        """The process now running."""
        assert self._process is not None, "the server has not been started"
        return self._process.pid

    def start(self) -> Self:
        """Start it and wait until it answers."""
        self._process = spawn([*self._command(), *self.options], log=self.log, cwd=self.folder)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"{type(self).__name__} does not answer:\n{self.log_tail()}")
            time.sleep(_POLL_S)
        return self

    def stop(self) -> None:
        """End it calmly (SIGTERM), as an administrator would."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it at once (SIGKILL), paused or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> Self:
        """Start it anew on the same port and data, after `stop`, after `kill`, or straight from running."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def log_tail(self, chars: int = 4_000) -> str:
        """Return the end of what it printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-chars:] if self.log.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()


class _RedisLike(Server):
    @property
    def url(self) -> str:
        """How a driver reaches it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """Return a blocking client; close it, or use it in a `with`."""
        return redis.Redis.from_url(self.url, protocol=2)

    def answers(self) -> bool:
        """Tell whether it serves commands now."""
        with redis.Redis.from_url(self.url, protocol=2, socket_timeout=1.0) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


class EmbeddedValkey(_RedisLike):
    """The Valkey that `pushway up` runs."""

    def _command(self) -> list[str]:
        return redis_command(self.port, self.folder)


class DebianRedis(_RedisLike):
    """The machine's own redis-server, set up as `pushway up` sets up its Valkey; see `available`."""

    def _command(self) -> list[str]:
        return ["redis-server", *redis_options(self.port, self.folder)]

    @staticmethod
    def available() -> bool:
        """Tell whether the machine has one."""
        return shutil.which("redis-server") is not None


class Store(Server):
    """The MongoDB-compatible store that `pushway up` runs; `url` names no database."""

    @property
    def url(self) -> str:
        """How a driver reaches it."""
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    def _command(self) -> list[str]:
        return store_command(self.port, self.folder / "store")

    def client(self) -> pymongo.MongoClient[dict[str, Any]]:
        """Return a blocking client; close it, or use it in a `with`."""
        return pymongo.MongoClient(self.url)

    def answers(self) -> bool:
        """Tell whether it serves commands now."""
        with pymongo.MongoClient[dict[str, Any]](self.url, serverSelectionTimeoutMS=1_000) as client:
            try:
                return bool(client.admin.command("ping"))
            except pymongo.errors.PyMongoError:
                return False
