"""The C programs of scripts/load, compiled when they are first needed.

They are kept in the user's cache folder under a name made of their source, so a change is compiled anew and a checkout stays
clean. Only gcc (or what the variable CC names) and the C library's headers are needed.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).resolve().parents[2] / "scripts" / "load"

FLAGS: Final = ("-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror")

_SHARED: Final = ("buffer", "fail", "frame", "loop", "net")

PROGRAMS: Final = {
    "load": (*_SHARED, "load", "check", "clients", "dialect", "latency", "producer", "replies", "run", "stamp", "text"),
    "bare": (*_SHARED, "bare"),
}

_COMPILE_TIMEOUT_S: Final = 60.0


class NoCompilerError(Exception):
    """There is no C compiler here."""

    def __str__(self) -> str:
        return f"{shlex.join(compiler())} is not installed: the load generator is C (apt-get install gcc libc6-dev, or set CC)"


def compiler() -> list[str]:
    """Return the command of the C compiler."""
    return shlex.split(os.environ.get("CC", "gcc"))


def has_compiler() -> bool:
    """Tell whether there is one."""
    return shutil.which(compiler()[0]) is not None


def program(name: str) -> Path:
    """Return a program of `PROGRAMS`, compiled now unless it was before.

    Raises:
        NoCompilerError: when it would have to be.
        subprocess.CalledProcessError: when it does not compile; what the compiler says is on standard error.
    """
    path = _cache() / f"{name}-{_digest()}"
    if not path.exists():
        _compile(name, path)
    return path


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "pushway"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _digest() -> str:
    digest = hashlib.sha256(shlex.join([*compiler(), *FLAGS]).encode())
    for path in sorted(SOURCES.glob("*.[ch]")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _compile(name: str, path: Path) -> None:
    if not has_compiler():
        raise NoCompilerError
    # Under a name of our own first: another run may be compiling the same.
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    files = [str(SOURCES / f"{source}.c") for source in PROGRAMS[name]]
    command = [*compiler(), *FLAGS, "-o", str(unfinished), *files]
    subprocess.run(command, check=True, timeout=_COMPILE_TIMEOUT_S)
    unfinished.replace(path)
