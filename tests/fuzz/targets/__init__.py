"""The targets, by name: modules that are imported one at a time, since guidance has to come before the code it watches."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

import structlog


class Target(Protocol):
    """A module of this folder.

    Attributes:
        SEEDS: inputs to begin with, each of another kind.
    """

    SEEDS: Sequence[bytes]

    def run(self, data: bytes) -> None:
        """Take an input, and raise whatever when a promise is broken by it."""


NAMES: Final = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__"))


def load(name: str) -> Target:
    """Return a target."""
    return cast(Target, import_module(f"{__name__}.{name}"))


def about(target: Target) -> str:
    """Return what a target is, in a line."""
    return (target.__doc__ or "").partition("\n")[0]


@contextmanager
def silence() -> Iterator[None]:
    """Have nothing logged: most inputs are refused, and each would be told."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)
