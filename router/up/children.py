"""One child process: started so that it cannot outlive us, watched, and ended.

A child has a session of its own, so Ctrl-C in the terminal reaches only the parent, which ends its children in the order
that suits them. What a child prints goes to a file.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_BOUND = str(Path(__file__).with_name("bound.py"))


def spawn(
    command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that the kernel kills when this one ends. Call it from the main thread (see `bound`).

    Args:
        command: the program, looked for in PATH, and its arguments.
        log: file to which its output is appended.
        env: its environment; None for ours.
        cwd: its working folder; None for ours.

    Raises:
        OSError: when `log` cannot be opened. A program that cannot be started says so in `log` and exits with 127.
    """
    bound = [sys.executable, "-I", "-S", _BOUND, str(os.getpid()), *command]
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - the command is ours
            bound,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
