"""lua: the loader of the scripts."""

from __future__ import annotations

import pytest

import lua


def test_every_script_is_found() -> None:
    """Names are those of the files, sorted; each has a text."""
    names = lua.names()
    assert names == sorted(names)
    assert {"append", "bury", "dispatch", "lease_take", "sequence", "take"} <= set(names)
    assert all(lua.source(name).startswith("-- ") for name in names)


def test_missing_script_is_an_error() -> None:
    """A name that is no file is a mistake of the caller."""
    with pytest.raises(FileNotFoundError):
        lua.source("nothing")
