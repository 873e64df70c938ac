"""The load generator as a process: commands go in, what it measured comes out.

What a command does, and why the figures are what they are, stands in scripts/load/load.c and its headers.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import msgspec

from tests.bench.compiled import program

LIMIT_SHARE: Final = 0.9
"""From this share of a core on, the generator may be what holds the rest back."""

LATE_MAX_US: Final = 1_000.0
"""An open loop that sends later than this at p99 has not kept its rate."""


class GeneratorFailed(Exception):
    """The generator has ended; why, it has said on standard error."""


class Latency(msgspec.Struct, frozen=True):
    """How long it took, in µs."""

    p50: float
    p99: float
    p999: float
    max: float


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What the generator itself needed: seconds on the clock, on a core, asleep, and ready but without a core."""

    seconds: float
    cpu_s: float
    asleep_s: float
    without_core_s: float


class Connected(Spent, frozen=True, kw_only=True):
    """How many connections are open, and what opening them took."""

    open: int


class Deliveries(Spent, frozen=True, kw_only=True):
    """What came, and what went wrong. `received` counts each message once."""

    received: int
    lost: int
    duplicated: int
    out_of_order: int
    closed: int

    @property
    def faults(self) -> str:
        """Say what went wrong; empty when nothing did."""
        counts = {name: getattr(self, name) for name in ("lost", "duplicated", "out_of_order", "closed")}
        return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count)


class Ran(Deliveries, frozen=True, kw_only=True):
    """What came of a run.

    Attributes:
        sent: messages appended.
        in_time: of them, received before the last was appended.
        sending_s: how long that was.
        refused: appends that Redis answered with an error.
        stalled: messages that an open loop left out because Redis took none.
        latency_us: from append to frame; of an open loop from the time the append was due.
        late_us: how far behind its plan an open loop was.
    """

    sent: int
    in_time: int
    sending_s: float
    refused: int
    stalled: int
    latency_us: Latency
    late_us: Latency

    @property
    def per_s(self) -> float:
        """Deliveries a second while messages were appended."""
        return self.in_time / self.sending_s

    @property
    def limit(self) -> str:
        """Say when the figures are the generator's own; empty when they are not."""
        if self.cpu_s > LIMIT_SHARE * self.seconds:
            return f"the generator used more than {LIMIT_SHARE:.0%} of a core: it was the limit"
        if self.stalled or self.late_us.p99 > LATE_MAX_US:
            return f"the generator was behind its rate by more than {LATE_MAX_US / 1e3:g} ms at p99, which latency counts in"
        return ""


T = TypeVar("T")


class Generator:
    """The audience and the producer.

    Args:
        redis: `HOST:PORT` or the path of a unix socket.
        edges: `HOST:PORT` each, taken in turn.
        tokens: a file with a token a line, for the users `u0`, `u1` …
    """

    def __init__(self, redis: str, edges: Sequence[str], tokens: Path, password_file: Path | None = None) -> None:
        words = ["--redis", redis, "--tokens", str(tokens)]
        for edge in edges:
            words += ["--edge", edge]
        if password_file is not None:
            words += ["--password-file", str(password_file)]
        self._words = words

    def connect(self, count: int, at_once: int = 64, query: str = "", owed: int = 0) -> Connected:
        """Open connections, and return when each has had its welcome; each is owed so many messages that are stored."""
        wish = f" query={query}" if query else ""
        return self._ask(f"connect count={count} at_once={at_once} owed={owed}{wish}", Connected)

    def saturate(self, stream: str, outstanding: int, seconds: float, **more: int) -> Ran:
        """Keep so many messages of each user under way. More: `transient`, `body` (bytes), `users`."""
        return self._run(stream, f"outstanding={outstanding} seconds={seconds}", more)

    def drip(self, stream: str, rate: float, seconds: float, **more: int) -> Ran:
        """Append so many messages a second, to all users in turn, whatever comes of them."""
        return self._run(stream, f"rate={rate} seconds={seconds}", more)

    def replayed(self) -> Deliveries:
        """Wait for the stored messages that are owed to those who have just connected."""
        return self._ask("replayed", Deliveries)

    def state(self) -> Deliveries:
        """Return what has been seen since the last run began, and what the generator has used since its start."""
        return self._ask("state", Deliveries)

    def _run(self, stream: str, how: str, more: dict[str, int]) -> Ran:
        options = " ".join(f"{name}={value}" for name, value in more.items())
        return self._ask(f"run stream={stream} {how} {options}".rstrip(), Ran)

    def _ask(self, command: str, answer: type[T]) -> T:
        try:
            self._input.write(f"{command}\n")
            self._input.flush()
        except BrokenPipeError:
            raise GeneratorFailed(command) from None
        line = self._output.readline()
        if not line:
            raise GeneratorFailed(command)
        return msgspec.json.decode(line, type=answer)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [str(program("load")), *self._words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        self._output.close()
        with suppress(BrokenPipeError):  # of what it had not read
            self._input.close()
