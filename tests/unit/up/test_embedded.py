"""With which allocator the embedded Valkey runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.up import embedded

C_LIBRARY = "libc.so.6"
"""What every program here has loaded anyway, in place of what this machine may not have."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is preloaded")


@pytest.fixture(autouse=True)
def _tried_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setattr(embedded, "_ALLOCATOR", C_LIBRARY)
    embedded.preloading.cache_clear()
    yield
    embedded.preloading.cache_clear()


def _program(folder: Path, script: str) -> str:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_what_can_be_loaded_is(tmp_path: Path) -> None:
    """The process is the program's own: `env` becomes it."""
    assert embedded.preloading(_program(tmp_path, "true")) == ("/usr/bin/env", f"LD_PRELOAD={C_LIBRARY}")


def test_none_on_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server runs as it is, and its log has no complaint of the loader's."""
    monkeypatch.setattr(embedded, "_ALLOCATOR", "libnone-of-that-name.so.9")
    assert embedded.preloading(_program(tmp_path, "true")) == ()


def test_one_that_ends_the_program(tmp_path: Path) -> None:
    """It is tried out before the server depends on it."""
    assert embedded.preloading(_program(tmp_path, "exit 1")) == ()
    assert embedded.preloading(str(tmp_path / "missing")) == ()


def test_what_an_operator_preloads_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has chosen one for all that is started has chosen it for this, too."""
    monkeypatch.setenv("LD_PRELOAD", C_LIBRARY)
    assert embedded.preloading(_program(tmp_path, "true")) == ()
