"""The physical limit as a process: scripts/load/bare.c."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import psutil

from tests.bench.compiled import program
from tests.bench.dialect import PUSHWAY, Lane, redis_command, user_name
from tests.bench.generator import Generator
from tests.servers import Process, free_ports, port_is_free

TO_ALL: Final = "all"
TO_USER: Final = f"user:{user_name(0)}"


class BareWriter(Process):
    """Takes what the generator appends, and writes it to the user's socket at once."""

    def __init__(self, folder: Path) -> None:
        super().__init__("bare writer", folder / "bare.log")
        self._port = free_ports(2)

    def command(self) -> list[str]:
        """Return the command line."""
        return [str(program("bare")), str(self._port), str(self._port + 1)]

    def answers(self) -> bool:
        """Tell whether it listens."""
        return not port_is_free(self._port + 1)

    def stream(self, lane: str) -> Lane:
        """Return how it is published to; the name is all that a lane of it has."""
        target = TO_ALL if lane == "all" else TO_USER
        return lambda body, _transient: [redis_command("XADD", lane, "*", "to", target, "body", body)]

    def generator(self, users: int) -> Generator:
        """Return a generator for that many users, not started yet."""
        names = [user_name(number) for number in range(users)]
        return Generator(PUSHWAY, f"127.0.0.1:{self._port + 1}", [f"127.0.0.1:{self._port}"], names)

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds it has used."""
        user, system, *_ = psutil.Process(self.pid).cpu_times()
        return {"writer": float(user + system)}
