"""`pushway up` as a user runs it: one command, one XADD, and nothing left behind whatever way it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import psutil
import pymongo
import pytest
from redis import Redis
from websockets.sync.client import ClientConnection, connect

from edge.client import SUBPROTOCOL
from router.up.children import child_environment
from tests.servers import Process, free_ports, wait_until

_CHILDREN = ("redis", "store", "auth", "dispatch", "collect", "edge-1", "edge-2")
_RECEIVE_TIMEOUT_S = 60.0


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "router.commands", "up", *words]


def _refused(*words: str) -> str:
    """Run an `up` that must be refused, and return what it says."""
    env = child_environment(os.environ)
    done = subprocess.run(_command(*words), env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    return done.stderr


class Up(Process):
    """A running `pushway up`."""

    def __init__(self, folder: Path) -> None:
        super().__init__("up", folder / "up.log")
        self.data = folder / "data"
        self.port_base = free_ports(30)

    def command(self) -> list[str]:
        """Return the command line."""
        ports = ("--port-base", self.port_base, "--redis-port", self.port_base + 28, "--mongo-port", self.port_base + 29)
        return _command("--json", "--data", str(self.data), *map(str, ports))

    def launch(self) -> Up:
        """Start it with an empty log, so that an earlier start's report does not count."""
        self.log.unlink(missing_ok=True)
        return super().launch()

    def answers(self) -> bool:
        """Tell whether it has printed its report."""
        return any(line.startswith("{") for line in self.log_tail().splitlines())

    @property
    def report(self) -> dict[str, Any]:
        """What it said when it was ready."""
        line = next(line for line in self.log_tail().splitlines() if line.startswith("{"))
        return cast("dict[str, Any]", json.loads(line))

    @property
    def ready(self) -> bool:
        """What the API says for the whole of it."""
        try:
            return httpx.get(f"{self.report['api']}/readyz", timeout=2.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def below(self) -> list[psutil.Process]:
        """Return every process that it has started, and theirs."""
        return psutil.Process(self.pid).children(recursive=True)

    @contextmanager
    def listen(self, edge: int) -> Iterator[ClientConnection]:
        """Yield a connection to an edge that has had its welcome."""
        url = self.report["edges"][edge - 1]
        headers = {"Authorization": f"Bearer {self.report['token']}"}
        with connect(url, subprotocols=[SUBPROTOCOL], additional_headers=headers, proxy=None) as connection:
            assert _receive(connection, "welcome")["user"] == "alice"
            yield connection

    def append(self, text: str) -> None:
        """Append a message for alice."""
        with Redis.from_url(self.report["redis"], protocol=2) as redis:
            redis.xadd("push:{0}:in", {"to": "user:alice", "text": text})

    def stored(self) -> set[str]:
        """Return the texts of all messages in the store."""
        with pymongo.MongoClient[dict[str, Any]](self.report["store"]) as client:
            return {json.loads(document["frame"])["text"] for document in client.pushway.inbox.find()}


def _receive(connection: ClientConnection, kind: str) -> dict[str, Any]:
    """Return the next frame of a kind."""
    while True:
        frame = json.loads(connection.recv(timeout=_RECEIVE_TIMEOUT_S))
        if frame["type"] == kind:
            return cast("dict[str, Any]", frame)


def _alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Yield one that runs, for the tests that leave it running."""
    with Up(tmp_path_factory.mktemp("up")) as running:
        yield running


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Up, set[str]]:
    """Return one that does not run yet, and the messages that its data folder must have."""
    return Up(tmp_path_factory.mktemp("kept")), set()


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="no redis-cli here")
def test_the_printed_line_is_on_every_screen(up: Up) -> None:
    """Pasted into a shell, the XADD of the report reaches alice on both edges."""
    with ExitStack() as stack:
        screens = [stack.enter_context(up.listen(edge)) for edge in (1, 2)]
        subprocess.run(["/bin/sh", "-c", up.report["append"]], check=True, capture_output=True)
        for screen in screens:
            assert _receive(screen, "message")["body"] == {"text": "hello"}


def test_the_settings_in_force_are_written_for_the_owner_alone(up: Up) -> None:
    """With the secrets in them, hence mode 0600; the API answers for the whole."""
    config = Path(up.report["config"])
    assert config == up.data / "pushway.toml"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert up.ready


def test_every_child_is_named_on_its_command_line(up: Up) -> None:
    """`ps` tells which process is which service."""
    lines = [" ".join(process.cmdline()) for process in up.below()]
    for service in ("auth --config", "dispatch --config", "collect --config", "node=edge-1", "node=edge-2"):
        assert sum(service in line for line in lines) == 1, (service, lines)


def test_a_second_one_on_the_same_folder_is_refused(up: Up) -> None:
    """Before it does anything."""
    assert "another `pushway up` runs on" in _refused("--data", str(up.data))


@pytest.mark.parametrize(("offset", "use", "flag"), [(0, "API", "--port-base"), (28, "Redis", "--redis-port")])
def test_a_port_that_is_taken_is_named(up: Up, tmp_path: Path, offset: int, use: str, flag: str) -> None:
    """With what it is for, and a flag that is taken as it is said."""
    taken = up.port_base + offset
    words: tuple[str, ...] = (flag, str(taken), "--data", str(tmp_path / "data"))
    free = free_ports(30)
    for other, number in (("--port-base", free), ("--redis-port", free + 28), ("--mongo-port", free + 29)):
        words += (other, str(number)) if other != flag else ()
    said = _refused(*words)
    assert re.search(rf"ports? {taken} \({use}\).* taken; pass {flag} \d+", said), said


def test_a_wrong_number_of_shards_is_refused_and_not_kept(tmp_path: Path) -> None:
    """The first start fixes it: another number is named, and the next start goes by the first one again."""
    with Up(tmp_path) as up:
        ports = up.command()[5:]
    config = tmp_path / "data" / "pushway.toml"
    before = config.read_text()
    assert "push:config says shards=1" in _refused(*ports, "--shards", "4")
    assert config.read_text() == before


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    """With where it came from and what it accepts; nothing is started."""
    said = _refused("--data", str(tmp_path / "data"), "--set", "lease_ms=soon")
    assert "lease_ms" in said
    assert "whole number" in said
    assert not (tmp_path / "data" / "logs").exists()


@pytest.mark.parametrize("name", _CHILDREN)
def test_a_child_that_crashes_is_started_again(up: Up, name: str) -> None:
    """And then a message gets through as before; no other child is touched."""
    before = {process.pid for process in up.below()}
    victim = _child(up, name)
    victim.kill()
    wait_until(lambda: len({process.pid for process in up.below()} - before) == 1, f"{name} is started again")
    wait_until(lambda: up.ready, "all of it is ready again")
    assert {process.pid for process in up.below()} & before == before - {victim.pid}
    with up.listen(1) as screen:
        up.append(f"after the crash of {name}")
        assert _receive(screen, "message")["text"] == f"after the crash of {name}"


def test_the_logs_level_changes_in_all_services_by_signal(up: Up) -> None:
    """SIGUSR1 and SIGUSR2 go to every service, and to no server: none of it ends."""
    before = {process.pid for process in up.below()}
    for signum, level in ((signal.SIGUSR1, "debug"), (signal.SIGUSR2, "info")):
        up.send_signal(signum)
        wait_until(lambda: _last_levels(up) == {level}, f"all services log from {level} on")  # noqa: B023 - it is called here
    assert {process.pid for process in up.below()} == before


def _last_levels(up: Up) -> set[str]:
    """Return what the services say last of their level; empty for one that has said nothing."""
    services = [name for name in _CHILDREN if name not in {"redis", "store"}]
    told = [
        re.findall(r"log_level_changed +.*?\bto=(\w+)", (up.data / "logs" / f"{name}.log").read_text()) for name in services
    ]
    return {levels[-1] if levels else "" for levels in told}


def _child(up: Up, name: str) -> psutil.Process:
    marks = {"redis": "valkey-server", "store": "secantusd-py", "edge-1": "node=edge-1", "edge-2": "node=edge-2"}
    mark = marks.get(name, f" {name} --config")
    return next(process for process in up.below() if mark in " ".join(process.cmdline()))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_running_and_the_data_is_there_again(kept: tuple[Up, set[str]], signum: signal.Signals) -> None:
    """Ctrl-C, SIGTERM, a closed terminal, and even `kill -9` of the parent."""
    up, expected = kept
    with up:
        assert up.stored() == expected
        up.append(signum.name)
        expected.add(signum.name)
        wait_until(lambda: up.stored() == expected, "the message is stored")
        below = up.below()
        assert len(below) == len(_CHILDREN)
        psutil.Process(up.pid).send_signal(signum)
        status = up.wait()
        assert status == (-signal.SIGKILL if signum is signal.SIGKILL else 0)
        wait_until(lambda: not _alive(below), "no process is left")
    if signum is not signal.SIGKILL:
        assert "Ended, and nothing is left running" in up.log_tail()
