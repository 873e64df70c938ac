"""Several hosts on one machine: network namespaces, each with an address of its own, on a switch that is one as well.

    with Lan(folder, ("redis", "edge-1"), wired="redis") as lan:
        lan["redis"].command("redis-server", ...)         # a command line that runs on that host
        lan["edge-1"].run(function)                       # a call in a thread that is on that host
        lan.cut("edge-1", "redis")

                                ┌ wire (see `wire`) ─ redis 10.77.0.1
    switch (bridge) ── veth ────┼─ edge-1 10.77.0.2
                                └─ …

How a line is cut: the sender is told a wrong hardware address of the receiver, so the switch carries its frames to nobody.
Neither side hears of it, as when a switch on the way fails: no error, no reset, and what is cut one way goes on the other way.

The machine's own network is not touched. Namespaces outlive whoever made them, so their names say who that was, and the next
one takes away what is left of the dead. Needs root, and /dev/net/tun for the wire; see `why_not`.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from tests.hosts import wire
from tests.servers import Process

INTERFACE: Final = "eth0"
"""What each host calls its end."""

TUN: Final = Path("/dev/net/tun")

_SWITCH: Final = "switch"
_MTU: Final = 1_500
_NOBODY: Final = "02:00:00:00:00:ff"
"""A hardware address that no interface has: locally administered, and made by hand."""
_NAME: Final = re.compile(r"pushway-(\d+)-")
_IP_TIMEOUT_S: Final = 10.0

_numbers = count(1)

T = TypeVar("T")


class IpRefused(Exception):
    """`ip` has not done what it was told.

    Attributes:
        reason: what it printed.
    """

    def __init__(self, words: Sequence[str], reason: str) -> None:
        super().__init__(f"ip {' '.join(words)}: {reason}")
        self.reason = reason


def why_not() -> str | None:
    """Return why hosts cannot be made here; None when they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "no ip (iproute2) here"
    if not TUN.exists():
        return f"no {TUN} here"
    probe = f"pushway-{os.getpid()}-probe"
    try:
        _ip("netns", "add", probe)
        _ip("netns", "delete", probe)
    except IpRefused as exc:
        return f"no network namespaces here: {exc.reason}"
    return None


def namespaces() -> list[str]:
    """Return the names of all namespaces that a `Lan` has made, whoever made it."""
    return [name for line in _ip("netns", "list").splitlines() if _NAME.match(name := line.split()[0])]


def sweep() -> None:
    """Take away the namespaces of those who are dead and have not done it themselves."""
    for name in namespaces():
        found = _NAME.match(name)
        if found and not Path(f"/proc/{found[1]}").exists():
            with suppress(IpRefused):  # another run has swept it
                _ip("netns", "delete", name)


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace with one interface.

    Attributes:
        name: what it is called among its like.
        address: its IPv4 address.
        namespace: what `ip netns` calls it.
    """

    name: str
    address: str
    namespace: str

    def command(self, *words: str) -> list[str]:
        """Return a command line that runs another one on this host, in a process of the same id."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def run(self, function: Callable[[], T]) -> T:
        """Call a function in a thread that is on this host, and return what it returns; the threads that it starts are, too."""
        with ThreadPoolExecutor(1, initializer=wire.enter_namespace, initargs=(self.namespace,)) as inside:
            return inside.submit(function).result()


class Wire(Process):
    """The cable of one host, which can be made long or bad; see `wire`."""

    def __init__(self, folder: Path, host: Host, switch: str) -> None:
        super().__init__("wire", folder / "wire.log")
        self._words = (host.namespace, INTERFACE, switch, host.name)
        self._control = folder / "wire.sock"

    def command(self) -> list[str]:
        """Return the command line."""
        return [sys.executable, "-I", "-S", wire.__file__, *self._words, str(self._control)]

    def answers(self) -> bool:
        """Tell whether both its ends are there."""
        return self._control.exists()

    def set(self, *, out_ms: float = 0.0, in_ms: float = 0.0, out_loss: float = 0.0, in_loss: float = 0.0) -> None:
        """Let frames from the host (`out`) and to it (`in`) be so late from now on, and that share of them be lost."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
            control.sendto(f"{out_ms} {in_ms} {out_loss} {in_loss}".encode(), str(self._control))


class Lan:
    """Hosts by name, and what may happen to the lines between them.

    Args:
        folder: for the wire's log and socket.
        names: of the hosts, at most 15 characters each.
        wired: the host that has the wire.

    Attributes:
        wire: the cable of that host.
    """

    def __init__(self, folder: Path, names: Sequence[str], *, wired: str) -> None:
        own = f"pushway-{os.getpid()}-{next(_numbers)}"
        self._hosts = {name: Host(name, f"10.77.0.{n}", f"{own}-{name}") for n, name in enumerate(names, start=1)}
        self._switch = f"{own}-{_SWITCH}"
        self._wired = wired
        self._cuts: set[tuple[str, str]] = set()
        self.wire = Wire(folder, self[wired], self._switch)

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All of them."""
        return tuple(self._hosts.values())

    def lose(self, sender: str, receiver: str) -> None:
        """Lose whatever one host sends to another, and nothing that comes back."""
        address = self[receiver].address
        _ip("-n", self[sender].namespace, "neigh", "replace", address, "lladdr", _NOBODY, "dev", INTERFACE, "nud", "permanent")
        self._cuts.add((sender, receiver))

    def cut(self, one: str, other: str) -> None:
        """Lose whatever two hosts send to each other."""
        self.lose(one, other)
        self.lose(other, one)

    def isolate(self, name: str) -> None:
        """Lose whatever goes to a host or comes from it: its port of the switch is switched off."""
        _ip("-n", self._switch, "link", "set", "dev", name, "down")

    def heal(self) -> None:
        """Let everything be as it was in the beginning."""
        for sender, receiver in self._cuts:
            _ip("-n", self[sender].namespace, "neigh", "delete", self[receiver].address, "dev", INTERFACE)
        self._cuts.clear()
        for name in self._hosts:
            _ip("-n", self._switch, "link", "set", "dev", name, "up")
        self.wire.set()

    def start(self) -> Self:
        """Make all of it."""
        sweep()
        for namespace in (self._switch, *(host.namespace for host in self.hosts)):
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "dev", "lo", "up")
        _ip("-n", self._switch, "link", "add", _SWITCH, "type", "bridge")
        _ip("-n", self._switch, "link", "set", "dev", _SWITCH, "up")
        self.wire.start()
        for host in self.hosts:
            self._plug_in(host)
        return self

    def end(self) -> None:
        """Take all of it away, however much there is; the processes on the hosts must have been ended."""
        if self.wire.launched and not self.wire.ended:
            self.wire.kill()
        for namespace in (self._switch, *(host.namespace for host in self.hosts)):
            with suppress(IpRefused):  # it has not been made
                _ip("netns", "delete", namespace)

    def _plug_in(self, host: Host) -> None:
        if host.name != self._wired:
            ends = ("name", INTERFACE, "type", "veth", "peer", "name", host.name, "netns", self._switch)
            _ip("-n", host.namespace, "link", "add", *ends)
        _ip("-n", self._switch, "link", "set", "dev", host.name, "master", _SWITCH, "mtu", str(_MTU), "up")
        _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", INTERFACE)
        _ip("-n", host.namespace, "link", "set", "dev", INTERFACE, "up")

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.end()
            raise

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.end()


def _ip(*words: str) -> str:
    """Run `ip`, and return what it prints.

    Raises:
        IpRefused: when it does not do it.
    """
    command = ["ip", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_IP_TIMEOUT_S)
    if done.returncode:
        raise IpRefused(words, done.stderr.strip())
    return done.stdout
