"""How hard the controlling process works: clients, producers and proxies run in it, and it must not be what is slow."""

from __future__ import annotations

import time
from typing import Final

import anyio

TOO_BUSY: Final = 0.85
"""Share of a core from which on the controller is held to be the bottleneck."""

TOO_LATE_S: Final = 0.25
"""Lag of the event loop, at the 99th percentile, from which on it is too."""

_TICK_S: Final = 0.02


class Load:
    """CPU time and event loop lag of this process while `watch` runs."""

    def __init__(self) -> None:
        self._lags_s: list[float] = []
        self._began_s = time.monotonic()
        self._cpu_began_s = time.process_time()
        self._ended_s = self._began_s
        self._cpu_ended_s = self._cpu_began_s

    async def watch(self) -> None:
        """Measure until cancelled."""
        while True:
            asleep_s = time.monotonic()
            await anyio.sleep(_TICK_S)
            self._ended_s, self._cpu_ended_s = time.monotonic(), time.process_time()
            self._lags_s.append(self._ended_s - asleep_s - _TICK_S)

    @property
    def busy(self) -> float:
        """CPU seconds a second; the threads that wait for processes count too."""
        passed_s = self._ended_s - self._began_s
        return (self._cpu_ended_s - self._cpu_began_s) / passed_s if passed_s else 0.0

    @property
    def lag_p99_s(self) -> float:
        """How much later than asked for the loop came back, at the 99th percentile."""
        return sorted(self._lags_s)[len(self._lags_s) * 99 // 100] if self._lags_s else 0.0

    @property
    def lag_max_s(self) -> float:
        """Likewise, the worst."""
        return max(self._lags_s, default=0.0)

    @property
    def is_bottleneck(self) -> bool:
        """Whether figures of this run say more of the controller than of the system."""
        return self.busy > TOO_BUSY or self.lag_p99_s > TOO_LATE_S
