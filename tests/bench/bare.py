"""The physical limit as a process: scripts/load/bare.c."""

from __future__ import annotations

from pathlib import Path

import psutil

from tests.bench.compiled import program
from tests.bench.generator import Generator
from tests.servers import Process, free_ports, port_is_free


class BareWriter(Process):
    """Takes what the generator appends, and writes it to the user's socket at once."""

    def __init__(self, folder: Path) -> None:
        super().__init__("bare writer", folder / "bare.log")
        self._folder = folder
        self._port = free_ports(2)

    def command(self) -> list[str]:
        """Return the command line."""
        return [str(program("bare")), str(self._port), str(self._port + 1)]

    def answers(self) -> bool:
        """Tell whether it listens."""
        return not port_is_free(self._port + 1)

    def stream(self, lane: str) -> str:
        """Return a name: it has no streams."""
        return lane

    def generator(self, users: int) -> Generator:
        """Return a generator for that many users, not started yet."""
        tokens = self._folder / "names"
        tokens.write_text("".join(f"u{number}\n" for number in range(users)), encoding="utf-8")
        return Generator(f"127.0.0.1:{self._port + 1}", [f"127.0.0.1:{self._port}"], tokens)

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds it has used."""
        user, system, *_ = psutil.Process(self.pid).cpu_times()
        return {"writer": float(user + system)}
