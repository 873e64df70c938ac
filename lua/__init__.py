"""The Redis scripts: one file each, loaded from wherever the package is installed.

A script's header lists its KEYS, its ARGV and what it returns; the adapter that calls it (collect's and dispatch's in
`router`, the routes' in `edge`) turns the reply into types of ours.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def source(name: str) -> str:
    """Return the text of `<name>.lua`.

    Raises:
        FileNotFoundError: when there is no such script.
    """
    return files(__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8")


def names() -> list[str]:
    """Return the names of all scripts, sorted."""
    return sorted(item.name.removesuffix(".lua") for item in files(__name__).iterdir() if item.name.endswith(".lua"))
