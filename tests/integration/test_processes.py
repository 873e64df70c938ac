"""router.processes: processes that are kept running until it makes no sense any more, or a signal ends them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import anyio
import pytest
from anyio.abc import TaskGroup

from router.processes import Processes
from tests.integration.edges import PROMPT_S, eventually

pytestmark = pytest.mark.anyio

NOTES_SIGNALS: Final = """
import pathlib, signal, sys
file = pathlib.Path(sys.argv[1])
noted = {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}
# Waited for, not handled: the handler of one could be cut short by another's that ends the process.
signal.pthread_sigmask(signal.SIG_BLOCK, noted)
file.touch()
number = None
while number != signal.SIGTERM or "stubborn" in sys.argv:
    number = signal.sigwait(noted)
    with file.open("a") as notes: notes.write(f"{signal.Signals(number).name} ")
"""


def _noting(file: Path, *words: str) -> list[str]:
    return [sys.executable, "-c", NOTES_SIGNALS, str(file), *words]


async def _run(commands: dict[str, list[str]], end_timeout_s: float = PROMPT_S) -> int:
    with anyio.fail_after(2 * PROMPT_S):
        return await Processes(commands, end_timeout_s).run()


@pytest.mark.parametrize(("status", "code"), [(1, 1), (0, 1), (2, 2)])
async def test_what_keeps_ending_is_given_up(tmp_path: Path, status: int, code: int) -> None:
    """Five times within half a minute, calmly or not, or once where it says that it must not start; the others end with it."""
    ends = [sys.executable, "-S", "-c", f"open({str(tmp_path / 'starts')!r}, 'a').write('.'); raise SystemExit({status})"]
    assert await _run({"ends": ends, "stays": _noting(tmp_path / "stays")}) == code
    assert (tmp_path / "starts").read_text() == "." * (1 if status == 2 else 5)


async def _signalled(tmp_path: Path, tell: Callable[[], None], *words: str) -> int:
    """Run two, do something once both are there, and return the exit code."""
    codes: list[int] = []
    files = [tmp_path / name for name in ("a", "b")]

    async def run(tasks: TaskGroup) -> None:
        codes.append(await _run({file.name: _noting(file, *words) for file in files}, 1.0))
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, tasks)
        await eventually(lambda: all(file.exists() for file in files))
        tell()
        await anyio.sleep_forever()
    return codes[0]


def _tell(*signals: signal.Signals) -> None:
    for signum in signals:
        os.kill(os.getpid(), signum)


async def test_signals_are_handed_on_and_the_last_ends_all(tmp_path: Path) -> None:
    """SIGHUP and SIGUSR1 end nothing; SIGTERM and SIGINT are a SIGTERM to each."""
    assert await _signalled(tmp_path, lambda: _tell(signal.SIGHUP, signal.SIGUSR1, signal.SIGINT)) == 0
    for name in ("a", "b"):
        assert set((tmp_path / name).read_text().split()) == {"SIGHUP", "SIGUSR1", "SIGTERM"}


async def test_what_does_not_end_is_killed(tmp_path: Path) -> None:
    """After its time, and the exit code says so."""
    assert await _signalled(tmp_path, lambda: _tell(signal.SIGTERM), "stubborn") == 1
