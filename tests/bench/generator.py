"""The load generator as a process: commands go in, what it measured comes out.

What a command does, and why the figures are what they are, stands in scripts/load/load.c and its headers.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Final, Self, TypeVar

import msgspec

from tests.bench.compiled import program
from tests.bench.dialect import BODY_BYTES, Dialect, Lane, body_text

LIMIT_SHARE: Final = 0.9
"""From this share of a core on, the generator may be what holds the rest back."""

SAID_CHARS: Final = 500
"""At most what is passed on of what the generator says; thousands of connections that break say so one by one."""

LATE_MAX_US: Final = 1_000.0
"""An open loop that sends later than this at p99 has not kept its rate."""


class GeneratorFailed(Exception):
    """The generator has ended.

    Attributes:
        command: what it was to do.
        said: the end of what it has said; why it ended stands there last.
    """

    def __init__(self, command: str, said: str) -> None:
        super().__init__(command, said)
        self.command = command
        self.said = said

    def __str__(self) -> str:
        return f"{self.said or 'the load generator has ended'} (asked to {self.command})"


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
        last_us: from append to the frame of the last who gets a message to all; zeros where messages go to one.
        late_us: how far behind its plan an open loop was.
    """

    sent: int
    in_time: int
    sending_s: float
    refused: int
    stalled: int
    latency_us: Latency
    last_us: Latency
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
        dialect: how the system is spoken to.
        publish: who takes publications: `HOST:PORT` or the path of a unix socket.
        edges: `HOST:PORT` each, taken in turn.
        tokens: one a user.
        ways: which of a lane's publications each user has; all the first when there is none.
    """

    def __init__(
        self, dialect: Dialect, publish: str, edges: Sequence[str], tokens: Sequence[str], ways: Sequence[int] = ()
    ) -> None:
        self._dialect = dialect
        self._publish = publish
        self._edges = edges
        self._users = list(zip(ways or [0] * len(tokens), tokens, strict=True))

    def connect(self, count: int, at_once: int = 64, query: str = "", owed: int = 0) -> Connected:
        """Open connections, and return when each has had its welcome; each is owed so many messages that are stored."""
        wish = f" query=?{query}" if query else ""
        return self._ask(f"connect count={count} at_once={at_once} owed={owed}{wish}", Connected)

    def saturate(self, lane: Lane, outstanding: int, seconds: float, **more: int) -> Ran:
        """Keep so many messages of each user under way.

        More: `transient`, `body` (bytes), `users` (the first), `to_all` (each message goes to all of them).
        """
        return self._run(lane, f"outstanding={outstanding} seconds={seconds}", **more)

    def drip(self, lane: Lane, rate: float, seconds: float, **more: int) -> Ran:
        """Append so many messages a second, to all users in turn, whatever comes of them."""
        return self._run(lane, f"rate={rate} seconds={seconds}", **more)

    def replayed(self) -> Deliveries:
        """Wait for the stored messages that are owed to those who have just connected."""
        return self._ask("replayed", Deliveries)

    def state(self) -> Deliveries:
        """Return what has been seen since the last run began, and what the generator has used since its start."""
        return self._ask("state", Deliveries)

    def _run(self, lane: Lane, how: str, *, transient: int = 0, body: int = BODY_BYTES, **more: int) -> Ran:
        publications = lane(body_text(body), bool(transient))
        path = self._folder / "publication"
        for number, publication in enumerate(publications):
            path.with_suffix(f".{number}").write_bytes(publication)
        options = "".join(f" {name}={value}" for name, value in more.items())
        return self._ask(f"run publication={path} publications={len(publications)} {how}{options}", Ran)

    def _ask(self, command: str, answer: type[T]) -> T:
        try:
            self._input.write(f"{command}\n")
            self._input.flush()
        except BrokenPipeError:
            raise self._failed(command) from None
        line = self._output.readline()
        if not line:
            raise self._failed(command)
        return msgspec.json.decode(line, type=answer)

    def __enter__(self) -> Self:
        self._temporary = TemporaryDirectory()
        self._folder = Path(self._temporary.name)
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        return self

    @property
    def _said(self) -> Path:
        """What the generator says for people."""
        return self._folder / "said"

    def _failed(self, command: str) -> GeneratorFailed:
        self._process.wait()
        return GeneratorFailed(command, self._said.read_text(encoding="utf-8", errors="replace")[-SAID_CHARS:].strip())

    def _command(self) -> list[str]:
        self._dialect.write(self._folder)
        users = self._folder / "users"
        users.touch(mode=0o600)
        users.write_text("".join(f"{way} {token}\n" for way, token in self._users), encoding="utf-8")
        words = [str(program("load")), "--dialect", str(self._folder), "--publish", self._publish, "--users", str(users)]
        words += ["--protocol", self._dialect.protocol, "--lines", str(self._dialect.lines)]
        for edge in self._edges:
            words += ["--edge", edge]
        return words

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        self._output.close()
        with suppress(BrokenPipeError):  # of what it had not read
            self._input.close()
        sys.stderr.write(self._said.read_text(encoding="utf-8", errors="replace")[-SAID_CHARS:])
        self._temporary.cleanup()
