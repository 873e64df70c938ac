"""Hosts reach each other until their line is cut, one way or both; the wire makes it long or bad; nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.hosts.lan import Host, Lan, namespaces, sweep, why_not
from tests.servers import wait_until

if reason := why_not():
    pytest.skip(reason, allow_module_level=True)

PORT = 7_000
PATIENCE_S = 30.0
LOST_AFTER_S = 0.4
"""How long a datagram is waited for that is not to come."""

_NAMES = "import json, socket; print(json.dumps(socket.if_nameindex()))"


@pytest.fixture(scope="module")
def lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lan]:
    """Yield three hosts, of which `a` has the wire."""
    with Lan(tmp_path_factory.mktemp("lan"), ("a", "b", "c"), wired="a") as lan:
        yield lan


@pytest.fixture(autouse=True)
def healed(lan: Lan) -> Iterator[None]:
    """Leave every line well."""
    yield
    lan.heal()


def listener(host: Host, patience_s: float) -> socket.socket:
    """Return a socket that takes datagrams on a host."""
    taker = host.run(partial(socket.socket, socket.AF_INET, socket.SOCK_DGRAM))
    taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taker.bind((host.address, PORT))
    taker.settimeout(patience_s)
    return taker


def travel_s(sender: Host, receiver: Host, patience_s: float = PATIENCE_S) -> float | None:
    """Return how long a datagram was under way; None when it does not arrive."""
    with (
        listener(receiver, patience_s) as taker,
        sender.run(partial(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)) as giver,
    ):
        began_s = time.monotonic()
        giver.sendto(b"hello", (receiver.address, PORT))
        try:
            taker.recv(16)
        except TimeoutError:
            return None
        return time.monotonic() - began_s


def arrives(sender: Host, receiver: Host) -> bool:
    """Tell whether a datagram arrives."""
    return travel_s(sender, receiver) is not None


def is_lost(sender: Host, receiver: Host) -> bool:
    """Tell whether a datagram does not arrive."""
    return travel_s(sender, receiver, LOST_AFTER_S) is None


def test_cut_and_heal(lan: Lan) -> None:
    """What is cut between two hosts neither hears from the other, and each goes on to hear the third; then all is as before."""
    a, b, c = lan.hosts
    assert arrives(a, b)
    assert arrives(b, a)
    lan.cut("a", "b")
    assert is_lost(a, b)
    assert is_lost(b, a)
    assert arrives(a, c)
    assert arrives(c, b)
    lan.heal()
    assert arrives(a, b)
    assert arrives(b, a)


def test_one_way(lan: Lan) -> None:
    """What is lost one way comes the other way."""
    lan.lose("b", "c")
    assert is_lost(lan["b"], lan["c"])
    assert arrives(lan["c"], lan["b"])


@pytest.mark.parametrize("name", ["a", "b"])
def test_isolate(lan: Lan, name: str) -> None:
    """A host whose port is off, wired or not, hears nobody and is heard by nobody; the others hear each other."""
    other, third = (host for host in lan.hosts if host.name != name)
    lan.isolate(name)
    assert is_lost(lan[name], other)
    assert is_lost(other, lan[name])
    assert arrives(other, third)
    lan.heal()
    assert arrives(other, lan[name])


def test_wire(lan: Lan) -> None:
    """The wire makes one host's line long, each way as it is told, and loses what it is told to lose."""
    a, b, c = lan.hosts
    assert arrives(a, b)  # each knows the other's hardware address now
    lan.wire.set(out_ms=200, in_ms=50)
    # The quickest of several: each waits for its turn on a busy machine, beside its time on the wire.
    there_s, back_s = (min(travel_s(*way) or float("inf") for _ in range(5)) for way in ((a, b), (b, a)))
    assert 0.2 <= there_s < float("inf")
    assert 0.05 <= back_s < 0.2
    lan.wire.set(out_loss=1)
    assert is_lost(a, b)
    assert arrives(b, a)
    assert arrives(b, c)


def test_tcp_outlives_a_bad_wire(lan: Lan) -> None:
    """A byte stream comes whole over a line that loses one frame in ten, as the kernel sends again what is lost."""
    a, b, _ = lan.hosts
    lan.wire.set(out_loss=0.1)
    sent = os.urandom(200_000)
    with (
        b.run(partial(socket.create_server, (b.address, PORT))) as server,
        a.run(partial(socket.create_connection, (b.address, PORT))) as giver,
    ):
        taker, _ = server.accept()
        with taker:
            giver.sendall(sent)
            giver.shutdown(socket.SHUT_WR)
            with taker.makefile("rb") as stream:
                assert stream.read() == sent


def test_command_is_on_its_host(lan: Lan) -> None:
    """A command and a call run on the host: they see the same interfaces, which are not those of the machine."""
    words = lan["b"].command(sys.executable, "-c", _NAMES)
    shown = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert lan["b"].run(socket.if_nameindex) == [tuple(pair) for pair in json.loads(shown)] != socket.if_nameindex()


def test_nothing_is_left(tmp_path: Path) -> None:
    """After a failure in its midst no namespace and no process is left."""
    before = namespaces()
    lan = Lan(tmp_path, ("x", "y"), wired="y")
    made = 0

    def fail() -> None:
        nonlocal made
        with lan:
            made = len(namespaces()) - len(before)
            raise RuntimeError("in the midst")

    with pytest.raises(RuntimeError, match="in the midst"):
        fail()
    assert made == len(lan.hosts) + 1
    assert namespaces() == before
    assert not psutil.pid_exists(lan.wire.pid)


def test_the_dead_are_swept(tmp_path: Path) -> None:
    """Whoever is killed leaves no process on a host, and the next one takes its namespaces away."""
    program = textwrap.dedent("""
        import pathlib, subprocess, sys, time
        from tests.hosts.lan import Lan
        from router.up.children import spawn
        folder = pathlib.Path(sys.argv[1])
        lan = Lan(folder, ("x", "y"), wired="y").start()
        child = spawn(lan["x"].command("sleep", "600"), log=folder / "sleep.log")
        print(lan.wire.pid, child.pid, flush=True)
        time.sleep(600)
    """)
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as maker:
        assert maker.stdout is not None
        pids = [int(word) for word in maker.stdout.readline().split()]
        made = [name for name in namespaces() if f"-{maker.pid}-" in name]
        maker.send_signal(signal.SIGKILL)
        maker.wait()
    assert len(pids) == 2
    assert len(made) == 3
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), "the processes of the dead are gone")
    sweep()
    assert not set(made) & set(namespaces())
