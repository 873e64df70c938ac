"""Real processes for tests: the embedded Valkey and store, and the machine's redis-server.

Each server has a port and a folder of its own, answers when `start` returns, and ends with the test run whatever happens to it.
A restart keeps port and data. All calls block, and are quick enough to be made from asynchronous tests too.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import pymongo
import redis

from router.up.children import child_environment, spawn
from router.up.embedded import redis_command, redis_options, store_command

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
_POLL_S = 0.02

# Below the range that the kernel gives to outgoing connections (from 32768): such a port could be taken by any
# connection between a server's stop and its restart.
_PORTS = range(15_000, 32_000)
_SLICE = 1_000
"""Ports of one process of tests."""


class _Ports:
    """The ports that this process of tests may choose from, and no other one on the machine.

    A port is free from the moment it is chosen until its server listens, and while that is restarted. So two processes share no
    slice of them, and one goes through its slice from end to end before it chooses a port again.
    """

    def __init__(self) -> None:
        self._claim = socket.socket(socket.AF_UNIX)
        self._range = self._own_slice()
        self._next = self._range.start

    def free(self, count: int) -> int:
        for _ in range(2 * len(self._range)):
            first = self._next if self._next + count <= self._range.stop else self._range.start
            self._next = first + 1
            if all(port_is_free(port) for port in range(first, first + count)):
                self._next = first + count
                return first
        raise AssertionError(f"no {count} free ports in a row from {self._range.start} to {self._range.stop - 1}")

    def _own_slice(self) -> range:
        for first in range(_PORTS.start, _PORTS.stop, _SLICE):
            try:
                # A name of the kernel's, without a file; it goes with the process.
                self._claim.bind(f"\0pushway-test-ports-{first}")
            except OSError:
                continue
            return range(first, first + _SLICE)
        return _PORTS  # more processes than slices: as well as it goes


def port_is_free(port: int) -> bool:
    """Tell whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@cache
def _ports() -> _Ports:
    return _Ports()


def free_ports(count: int = 1) -> int:
    """Return the first of `count` free ports in a row, which no other process of tests chooses."""
    return _ports().free(count)


def _runs(pid: int) -> bool:
    """Tell whether a process has a thread that is neither stopped nor over: a signal reaches each one when its turn comes."""
    try:
        # "<pid> (<name>) <state> …"; see proc_pid_stat(5).
        stats = [(thread / "stat").read_text(encoding="utf-8") for thread in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}").exists()  # a thread has just ended; look again
    return any(stat.rpartition(") ")[2][0] not in "TtZX" for stat in stats)


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = START_TIMEOUT_S) -> None:
    """Return as soon as the condition holds; blocks.

    Raises:
        AssertionError: saying `what` did not come about in time.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(_POLL_S)


class Process(ABC):
    """A process of a test, which cannot outlive the test run.

    Attributes:
        name: what a failed test's report calls it.
        log: the file that takes what it prints.
        running: every process that has been started and not been ended; a failed test's report shows their logs.
    """

    running: ClassVar[dict[str, Process]] = {}

    def __init__(self, name: str, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line."""

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether it can be used now."""

    @property
    def pid(self) -> int:
        """The process now running, or the last one."""
        return self._started().pid

    @property
    def launched(self) -> bool:
        """Whether it has ever been started."""
        return self._process is not None

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._started().poll() is not None

    def launch(self) -> Self:
        """Start it, and do not wait until it answers."""
        env = child_environment(os.environ)
        self._process = spawn(self.command(), log=self.log, env=env, cwd=self.log.parent)
        Process.running[f"{self.name} ({self.pid})"] = self
        return self

    def start(self) -> Self:
        """Start it and wait until it answers."""
        return self.launch().wait_ready()

    def wait_ready(self) -> Self:
        """Wait until it answers."""
        wait_until(lambda: self.ended or self.answers(), f"{self.name} answers\n{self.log_tail()}")
        assert not self.ended, f"{self.name} has ended:\n{self.log_tail()}"
        return self

    def stop(self) -> int:
        """End it calmly (SIGTERM), as an administrator would, and return its exit status."""
        self._started().terminate()
        return self.wait()

    def kill(self) -> None:
        """End it at once (SIGKILL), paused or not."""
        self._started().kill()
        self.wait()

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait until it has ended, and return its exit status: the code, or minus the signal.

        Raises:
            AssertionError: when it does not end in time; it is killed then.
        """
        process = self._started()
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{self.name} does not end:\n{self.log_tail()}") from None
        Process.running.pop(f"{self.name} ({process.pid})", None)
        return status

    def restart(self) -> Self:
        """Start it anew on the same port and data, ending it calmly if it runs."""
        self.stop()
        return self.start()

    def send_signal(self, signum: signal.Signals) -> None:
        """Send it a signal."""
        self._started().send_signal(signum)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, nothing is answered. Return when every thread of it stands still."""
        self.send_signal(signal.SIGSTOP)
        wait_until(lambda: not _runs(self.pid), f"{self.name} stands still")

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self.send_signal(signal.SIGCONT)

    def log_tail(self, chars: int = 4_000) -> str:
        """Return the end of what it printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-chars:] if self.log.exists() else ""

    def _started(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.name} has not been started"
        return self._process

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()


class Server(Process):
    """A server on a free port, with its data in `folder`.

    Attributes:
        port: where it listens on 127.0.0.1; the same after every restart.
        options: further words of its command line.
    """

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        super().__init__(type(self).__name__, folder / "server.log")
        self.folder = folder
        self.options = options
        self.port = port or free_ports()

    @property
    @abstractmethod
    def url(self) -> str:
        """How a driver reaches it."""


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

    def command(self) -> list[str]:
        """Return the command line."""
        return [*redis_command(self.port, self.folder), *self.options]


class DebianRedis(_RedisLike):
    """The machine's own redis-server, set up as `pushway up` sets up its Valkey; see `available`."""

    def command(self) -> list[str]:
        """Return the command line."""
        return ["redis-server", *redis_options(self.port, self.folder), *self.options]

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

    def command(self) -> list[str]:
        """Return the command line."""
        return [*store_command(self.port, self.folder / "store"), *self.options]

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
