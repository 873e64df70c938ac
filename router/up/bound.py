"""Run a command whose life is bound to the life of the process that started it.

    python -I -S bound.py <pid of the parent> <command> [argument …]

The kernel is asked to kill this process when its parent ends (PR_SET_PDEATHSIG), and then the command takes its place:
the setting outlives exec, so even `kill -9` of the parent leaves nothing running. The signal is SIGKILL because nobody
is left to wait for a calm end. It is sent when the *thread* that started the child ends, so children are started from
the main thread.

A program of its own rather than a function run between fork and exec, which is not safe beside threads. It imports
nothing but the standard library, and little of that: it takes about 20 ms.

Source: https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_NOT_FOUND = 127  # what a shell answers for a command that cannot be run


def main(parent_pid: int, command: list[str]) -> None:
    """Bind this process to `parent_pid`, then become the command. Returns only if it cannot be run."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        return  # the parent ended before the kernel was asked, so no signal will ever come
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as exc:
        sys.stderr.write(f"{command[0]} cannot be started: {exc.strerror}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
    sys.exit(_NOT_FOUND)
