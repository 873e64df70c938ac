"""What is done to the system, one class a kind of harm; each is undone when its time is over.

    async with fault.strike(stand):
        await anyio.sleep(fault.for_s)

`KINDS` has every kind by the name that `scripts/chaos --faults` takes, with how one is drawn at random. What should come of a
fault is not said here: that is the checker's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import anyio

from router.up.children import spawn
from tests.chaos.proxy import BLACK_HOLE, CUT, Trouble
from tests.chaos.stand import COLLECTS, DISPATCHES, EDGES, LINKS, Stand

REDIS: Final = "redis"
"""As a victim: the server that is the primary when it strikes."""

SWITCH_TIMEOUT_S: Final = 15.0
"""How long the sentinels may take to agree on another primary."""

_ATTACH_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Fault(ABC):
    """Harm that is done to something for a while.

    Attributes:
        victim: a process, or a pattern of links such as `edge-1>redis`, `edge-1>*` or `*>redis`.
        for_s: how long it lasts; after that comes what it takes to be well again.
    """

    victim: str
    for_s: float

    @property
    def detail(self) -> str:
        """What a reader wants to know beyond kind, victim and duration."""
        return ""

    @abstractmethod
    def strike(self, stand: Stand) -> AbstractAsyncContextManager[None]:
        """Return a context that begins by doing it, and ends by undoing it and seeing the victim ready again."""


def _process(stand: Stand, victim: str) -> str:
    return stand.primary if victim == REDIS else victim


@dataclass(frozen=True, slots=True)
class Kill(Fault):
    """`kill -9`, and started again."""

    @asynccontextmanager
    async def strike(self, stand: Stand) -> AsyncIterator[None]:
        """Kill it, then start it."""
        name = _process(stand, self.victim)
        await stand.kill(name)
        yield
        await stand.revive(name)


@dataclass(frozen=True, slots=True)
class Restart(Fault):
    """Ended calmly (SIGTERM), and started again."""

    @asynccontextmanager
    async def strike(self, stand: Stand) -> AsyncIterator[None]:
        """Stop it, then start it."""
        name = _process(stand, self.victim)
        await stand.stop(name)
        yield
        await stand.revive(name)


@dataclass(frozen=True, slots=True)
class Pause(Fault):
    """Frozen (SIGSTOP): connections stay open, nothing is answered; then it goes on as if nothing had been."""

    @asynccontextmanager
    async def strike(self, stand: Stand) -> AsyncIterator[None]:
        """Freeze it, then let it go on."""
        name = _process(stand, self.victim)
        process = stand.processes[name]
        try:
            await anyio.to_thread.run_sync(process.pause)
            yield
        finally:
            process.resume()
        await stand.ready(name)


@dataclass(frozen=True, slots=True)
class SlowDisk(Fault):
    """Every flush to the disk takes longer: strace holds the process up at fsync and fdatasync.

    Attributes:
        flush_ms: by how much.
    """

    flush_ms: float

    @property
    def detail(self) -> str:
        """How slow."""
        return f"{self.flush_ms:.0f} ms a flush"

    @asynccontextmanager
    async def strike(self, stand: Stand) -> AsyncIterator[None]:
        """Attach strace, then detach it."""
        process = stand.processes[_process(stand, self.victim)]
        strace = _hold_up_flushes(process.pid, self.flush_ms, log=process.log.with_name("strace.log"))
        try:
            await anyio.to_thread.run_sync(_is_traced, process.pid)
            yield
        finally:
            strace.terminate()
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(strace.wait)


@dataclass(frozen=True, slots=True)
class BadLink(Fault):
    """Something is wrong with the network between two processes, or all around one.

    Attributes:
        trouble: what.
    """

    trouble: Trouble

    @property
    def detail(self) -> str:
        """How bad it is."""
        most_ms = 2 * self.trouble.delay_ms + self.trouble.jitter_ms
        return f"{self.trouble.delay_ms:.0f} to {most_ms:.0f} ms" if most_ms else ""

    @asynccontextmanager
    async def strike(self, stand: Stand) -> AsyncIterator[None]:
        """Trouble the links, then leave them alone."""
        links = [link for name, link in stand.links.items() if fnmatchcase(name, self.victim)]
        for link in links:
            link.suffer(self.trouble)
        try:
            yield
        finally:
            for link in links:
                link.recover(self.trouble)


@dataclass(frozen=True, slots=True)
class Failover(Fault):
    """Another Redis becomes the primary.

    Attributes:
        how: `asked for`, or found necessary because of `primary killed` or `primary frozen`.
    """

    how: str

    @property
    def detail(self) -> str:
        """Why."""
        return self.how

    @asynccontextmanager
    async def strike(self, stand: Stand) -> AsyncIterator[None]:
        """Have the primary replaced, and wait until the links lead to the new one."""
        before = stand.switches
        by_force = {"primary killed": Kill, "primary frozen": Pause}.get(self.how)
        if by_force is None:
            await _ask_for_failover(stand)
            await _switched(stand, before)
            yield
            return
        async with by_force(REDIS, self.for_s).strike(stand):
            await _switched(stand, before)
            yield


async def _ask_for_failover(stand: Stand) -> None:
    assert stand.sentinels is not None
    with anyio.move_on_after(SWITCH_TIMEOUT_S):
        while not await stand.sentinels.fail_over():  # noqa: ASYNC110 - refused until the replica is a good one
            await anyio.sleep(_POLL_S)


async def _switched(stand: Stand, before: int) -> None:
    with anyio.move_on_after(SWITCH_TIMEOUT_S):
        while stand.switches == before:  # noqa: ASYNC110 - the sentinels ring no bell
            await anyio.sleep(_POLL_S)


# -- slow disks ------------------------------------------------------------------------------------------------------


def _hold_up_flushes(pid: int, flush_ms: float, log: Path) -> subprocess.Popen[bytes]:
    calls = "fsync,fdatasync"
    slowly = f"inject={calls}:delay_enter={flush_ms * 1000:.0f}"
    return spawn(["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", slowly, "-p", str(pid)], log=log)


def _is_traced(pid: int) -> bool:
    """Return whether somebody has attached to the process, as soon as that is so; blocks."""
    deadline_s = time.monotonic() + _ATTACH_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text(encoding="ascii"):
            return True
        time.sleep(_POLL_S)
    return False


def disks_can_be_slowed(folder: Path) -> bool:
    """Tell whether strace is installed and may attach to a process of ours; blocks for a moment.

    Args:
        folder: for what it prints.
    """
    if shutil.which("strace") is None:
        return False
    log = folder / "strace.log"
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as someone:
        strace = _hold_up_flushes(someone.pid, 1, log=log)
        traced = _is_traced(someone.pid)
        strace.kill()
        strace.wait()
        someone.kill()
    return traced


# -- drawing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault.

    Attributes:
        says: what it does, for people.
        draw: makes one at random.
    """

    says: str
    draw: Callable[[Random], Fault]


def _kill(victims: tuple[str, ...], rng: Random) -> Fault:
    return Kill(rng.choice(victims), rng.uniform(0.1, 3))


def _pause(victims: tuple[str, ...], rng: Random) -> Fault:
    return Pause(rng.choice(victims), rng.uniform(0.5, 6))


def _restart(victims: tuple[str, ...], rng: Random) -> Fault:
    return Restart(rng.choice(victims), rng.uniform(0.1, 1))


def _slow_disk(victim: str, rng: Random) -> Fault:
    return SlowDisk(victim, rng.uniform(2, 8), round(rng.uniform(20, 300)))


def _cut(rng: Random) -> Fault:
    return BadLink(_links(rng), rng.uniform(0.2, 4), CUT)


def _black_hole(rng: Random) -> Fault:
    return BadLink(_links(rng), rng.uniform(0.5, 8), BLACK_HOLE)


def _delay(rng: Random) -> Fault:
    trouble = Trouble(delay_ms=round(rng.uniform(5, 150)), jitter_ms=round(rng.uniform(0, 100)))
    return BadLink(_links(rng), rng.uniform(2, 10), trouble)


def _links(rng: Random) -> str:
    """Draw one link mostly, now and then all of one process, or all to one."""
    around = (*(f"{edge}>*" for edge in EDGES), *(f"{collect}>*" for collect in COLLECTS), "*>redis", "*>store", "clients>*")
    return rng.choice(around if rng.random() < _ALL_AROUND else LINKS)


_ALL_AROUND: Final = 0.25


def _failover(rng: Random) -> Fault:
    return Failover(REDIS, rng.uniform(0.5, 4), rng.choice(("asked for", "primary killed", "primary frozen")))


_PROCESSES: Final[Mapping[str, tuple[str, ...]]] = {
    "edge": EDGES,
    "collect": COLLECTS,
    "dispatch": DISPATCHES,
    "auth": ("auth",),
    "redis": (REDIS,),
    "store": ("store",),
}

_RESTARTED: Final = ("edge", "redis", "store")

KINDS: Final[Mapping[str, Kind]] = {
    **{f"kill-{name}": Kind(f"kill -9 of {name}, started again", partial(_kill, who)) for name, who in _PROCESSES.items()},
    **{f"pause-{name}": Kind(f"SIGSTOP of {name} for a while", partial(_pause, who)) for name, who in _PROCESSES.items()},
    **{f"restart-{name}": Kind(f"calm restart of {name}", partial(_restart, _PROCESSES[name])) for name in _RESTARTED},
    "slow-redis": Kind("every fsync of Redis takes up to 300 ms longer (strace)", partial(_slow_disk, REDIS)),
    "slow-store": Kind("every fsync of the store takes up to 300 ms longer (strace)", partial(_slow_disk, "store")),
    "cut-link": Kind("connections between two processes are reset and refused", _cut),
    "hole-link": Kind("a black hole between two processes: nothing arrives, nobody is told", _black_hole),
    "delay-link": Kind("what two processes say to each other arrives late", _delay),
    "failover": Kind("another Redis becomes the primary (Sentinel; needs redis-server)", _failover),
}
"""Every kind by name."""

SLOW_DISKS: Final = frozenset({"slow-redis", "slow-store"})
FAILOVER: Final = "failover"
