"""How long something took, for tests of what is promised to be prompt: on a busy machine, too.

    watch = Stopwatch()
    await closed()
    assert watch.own_s() < 1.0

A promise of a second is one of a machine that has the time. So what is waited for a processor, by whomever, is taken off: the
kernel counts it (Linux: /proc/pressure/cpu; where there is none, all of the time counts).
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Final

_PRESSURE: Final = Path("/proc/pressure/cpu")

_COUNTS_AT_LEAST: Final = 0.1
"""Share of the time that counts however busy the machine is: what hangs is not excused."""


def _crowded_s() -> float:
    """Return how long, since the machine began, at least one process has waited for a processor."""
    with suppress(OSError):
        # "some avg10=… avg60=… avg300=… total=<microseconds>"; see Documentation/accounting/psi.rst of Linux.
        some = _PRESSURE.read_text(encoding="ascii").partition("\n")[0]
        return int(some.rpartition("=")[2]) / 1_000_000
    return 0.0


class Stopwatch:
    """Runs from its making on."""

    def __init__(self) -> None:
        self._began_s, self._crowded_s = time.monotonic(), _crowded_s()

    def own_s(self) -> float:
        """Return the seconds since then, less those in which the machine had too much to do."""
        took_s = time.monotonic() - self._began_s
        return max(took_s - (_crowded_s() - self._crowded_s), _COUNTS_AT_LEAST * took_s)
