"""What is read off while an attack runs: how the honest are served, and what the edge uses. Pure, but for reading /proc."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

_MIB: Final = 2**20
_KIB: Final = 1024

_COUNTER: Final = re.compile(r"_(total|count)(\{|$)")
"""How the name of a figure ends that only rises; labels come behind it."""

_RESET_PEAK: Final = "5"
"""What proc_pid_clear_refs(5) takes to have VmHWM begin anew."""


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """How the honest were served in one window.

    Attributes:
        seconds: how long it was.
        sent: messages appended in it.
        missed: of these, how many did not come, however long they were waited for.
        doubled: how many came more than once.
        closed: the code of every connection that ended; 1006 for one that ended without a word.
        p50_ms: from append to frame, of the messages that came.
        p99_ms: likewise.
        max_ms: likewise.
    """

    seconds: float
    sent: int
    missed: int
    doubled: int
    closed: tuple[int, ...]
    p50_ms: float
    p99_ms: float
    max_ms: float


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What a process holds in memory, in MiB: before, at its most, and after."""

    before_mib: float
    peak_mib: float
    after_mib: float

    @property
    def grown_mib(self) -> float:
        """By how much it was more at its most."""
        return self.peak_mib - self.before_mib


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the sorted values does not exceed; 0 of none."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def begin_peak(pid: int) -> None:
    """Have the highest memory of a process counted from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK, encoding="ascii")


def resident_mib(pid: int) -> float:
    """Return what a process has in memory now."""
    return _status_kib(pid, "VmRSS") * _KIB / _MIB


def peak_mib(pid: int) -> float:
    """Return the most that a process has had in memory since `begin_peak`."""
    return _status_kib(pid, "VmHWM") * _KIB / _MIB


def _status_kib(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found, f"the kernel tells no {name}"
    return int(found[1])


def counters(exposition: str, prefix: str = "pushway_") -> dict[str, float]:
    """Return the figures of a /metrics page whose names begin so, labels included in the name."""
    lines = (line.rpartition(" ") for line in exposition.splitlines() if line.startswith(prefix))
    return {name: float(value) for name, _, value in lines}


def rises(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Return by how much each counter rose, where it did."""
    return {
        name: value - before.get(name, 0.0)
        for name, value in after.items()
        if _COUNTER.search(name) and value > before.get(name, 0.0)
    }
