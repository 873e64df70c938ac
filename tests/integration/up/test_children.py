"""Children as processes: started, watched, ended, and bound to the life of their parent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from router.up import children
from tests.servers import wait_until

_PARENT = """
import sys, time
from pathlib import Path
from router.up.children import spawn
print(spawn([sys.executable, "-c", "import time; time.sleep(600)"], log=Path(sys.argv[1])).pid, flush=True)
time.sleep(600)
"""

_STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that has started a child, whose pid it prints."""
    command = [sys.executable, "-c", _PARENT, str(tmp_path / "child.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_kill_9_of_the_parent_takes_the_child_along(parent: subprocess.Popen[str]) -> None:
    """Although the parent has no chance to do anything about it."""
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the child is gone")


@pytest.mark.anyio
async def test_an_end_is_noticed_and_told(tmp_path: Path) -> None:
    """As an exit code, and as the number of a signal."""
    log = tmp_path / "log"
    assert await children.ended(children.spawn(["sh", "-c", "exit 3"], log=log)) == 3
    assert await children.ended(children.spawn(["sh", "-c", "kill -9 $$"], log=log)) == -9


@pytest.mark.anyio
async def test_a_program_that_is_not_there_says_so(tmp_path: Path) -> None:
    """In its log, with the exit code that a shell would give."""
    log = tmp_path / "log"
    assert await children.ended(children.spawn(["no-such-program"], log=log)) == 127
    assert "no-such-program cannot be started" in log.read_text()


@pytest.mark.anyio
async def test_a_child_that_does_not_end_when_asked_is_killed(tmp_path: Path) -> None:
    """After the time it was given."""
    log = tmp_path / "log"
    process = children.spawn([sys.executable, "-c", _STUBBORN], log=log)
    wait_until(lambda: log.read_text() == "deaf\n", "the child ignores SIGTERM")
    await children.stop(process, timeout_s=0.1)
    assert process.returncode == -9
