"""Installing peers and stores, each into a folder of its own below `.pushway-bench/`, by the tool that people would use for it.

What is there already is used again. Nothing outside that folder is touched, and no package's own script is run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

CACHE: Final = Path(__file__).resolve().parents[3] / ".pushway-bench"

_INSTALL_TIMEOUT_S: Final = 300.0
_BUILD_TIMEOUT_S: Final = 1_800.0
_DONE: Final = ".installed"
_SAID_CHARS: Final = 300


class SkippedError(Exception):
    """A peer cannot be measured here; the text says why."""


def npm(name: str, *packages: str) -> Path:
    """Return a folder with `node_modules`."""
    return _install(name, packages, [program("npm"), "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages])


def go(name: str, module: str) -> Path:
    """Return a folder with the program of a module."""
    folder = CACHE / name
    return _install(name, (module,), [program("go"), "install", module], {"GOBIN": str(folder)})


def cargo(crate: str, version: str, *, needs: Sequence[str] = ()) -> Path:
    """Return a folder with the programs of a crate in `bin`, built here in minutes.

    Args:
        crate: its name.
        version: the one that is wanted, and no other.
        needs: programs without which it cannot be built.
    """
    for tool in needs:
        program(tool)
    command = [program("cargo"), "install", "--quiet", "--root", str(CACHE / crate), "--version", version, crate]
    return _install(crate, (crate, version), command, timeout_s=_BUILD_TIMEOUT_S)


def pip(name: str, *packages: str) -> Path:
    """Return the folder of a virtual environment."""
    folder = CACHE / name
    if not (folder / "bin" / "pip").exists():
        _run([sys.executable, "-m", "venv", str(folder)], CACHE)
    return _install(name, packages, [str(folder / "bin" / "pip"), "install", "-q", *packages])


def debian(name: str, *packages: str) -> Path:
    """Return a folder with the files of Debian packages, which are unpacked there and not installed."""
    folder = _install(name, packages, [program("apt-get"), "download", "-q", *packages])
    if not (folder / "usr").exists():
        for archive in folder.glob("*.deb"):
            _run([program("dpkg-deb"), "-x", str(archive), str(folder)], folder)
    return folder


def program(name: str) -> str:
    """Return the path of a program.

    Raises:
        SkippedError: when it is not installed.
    """
    path = shutil.which(name)
    if path is None:
        raise SkippedError(f"{name} is not installed")
    return path


def _install(
    name: str,
    packages: tuple[str, ...],
    command: list[str],
    env: Mapping[str, str] | None = None,
    timeout_s: float = _INSTALL_TIMEOUT_S,
) -> Path:
    folder, wanted = CACHE / name, "\n".join(packages)
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / _DONE
    if not done.exists() or done.read_text(encoding="utf-8") != wanted:
        _run(command, folder, env, timeout_s)
        done.write_text(wanted, encoding="utf-8")
    return folder


def _run(command: list[str], folder: Path, env: Mapping[str, str] | None = None, timeout_s: float = _INSTALL_TIMEOUT_S) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            command,
            check=False,
            cwd=folder,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        raise SkippedError(f"{Path(command[0]).name} took longer than {timeout_s:g} s to install it") from None
    if done.returncode:
        said = "\n".join(line for line in done.stderr.splitlines() if " warn " not in line)
        raise SkippedError(f"{Path(command[0]).name} cannot install it: {said[:_SAID_CHARS]}")
