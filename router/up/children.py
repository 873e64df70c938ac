"""One child process: started so that it cannot outlive us, watched, and ended.

A child has a session of its own, so Ctrl-C in the terminal reaches only the parent, which ends its children in the order
that suits them. What a child prints goes to a file.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import anyio

from router.settings import ENV_PREFIX

STOP_TIMEOUT_S: Final = 8.0
"""How long a child may take to end once asked to. An edge's drain and closing handshakes fit into it."""

RESTARTS_MAX: Final = 4
RESTARTS_WINDOW_S: Final = 30.0

_BOUND = str(Path(__file__).with_name("bound.py"))


def spawn(
    command: Sequence[str], *, log: Path | None = None, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that the kernel kills when this one ends. Call it from the main thread (see `bound`).

    Args:
        command: the program, looked for in PATH, and its arguments.
        log: file to which its output is appended; None for where ours goes.
        env: its environment; None for ours.
        cwd: its working folder; None for ours.

    Raises:
        OSError: when `log` cannot be opened. A program that cannot be started says so in `log` and exits with 127.
    """
    bound = [sys.executable, "-I", "-S", _BOUND, str(os.getpid()), *command]
    with nullcontext() if log is None else log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - the command is ours
            bound,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for children: without settings, because the file that they are given has them all."""
    env = {name: value for name, value in environ.items() if not name.startswith(ENV_PREFIX)}
    return env | {"PYTHONUNBUFFERED": "1"}  # a log is read while its writer runs


async def ended(process: subprocess.Popen[bytes]) -> int:
    """Return the exit status when the process has ended: its code, or minus the signal that killed it.

    Cancelled, it leaves the process as it is.
    """
    if process.returncode is None:
        # A file descriptor that becomes readable when the process ends: no polling, no thread, no handler for SIGCHLD.
        watch = os.pidfd_open(process.pid)
        try:
            await anyio.wait_readable(watch)
        finally:
            os.close(watch)
    return process.wait()


async def stop(process: subprocess.Popen[bytes], timeout_s: float = STOP_TIMEOUT_S) -> None:
    """End a process: SIGTERM, and SIGKILL if that has not helped in time."""
    process.terminate()
    with anyio.move_on_after(timeout_s) as patience:
        await ended(process)
    if patience.cancelled_caught:
        process.kill()
        await ended(process)


class Crashes:
    """How often a child has ended by itself lately; it is given up when that happens too often."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=RESTARTS_MAX + 1)

    def too_many(self, now_s: float) -> bool:
        """Note a crash at `now_s` on a monotonic clock, and tell whether it is the fifth within 30 seconds."""
        self._times.append(now_s)
        return len(self._times) == self._times.maxlen and now_s - self._times[0] <= RESTARTS_WINDOW_S


def status_text(status: int) -> str:
    """Say in words how a process ended."""
    return f"ended by signal {-status}" if status < 0 else f"ended with exit code {status}"
