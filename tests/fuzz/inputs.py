"""Bytes as choices: what a target makes of its input.

The same bytes are the same choices, however they were found, and a byte more or less changes little of what was chosen before
it. Bytes that are lacking are zero, so that every input is one. Pure.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

_T = TypeVar("_T")


class Choices:
    """Takes choices from the front of an input."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Tell whether anything is left."""
        return self._at < len(self._data)

    def byte(self) -> int:
        """Return a number from 0 to 255."""
        return int.from_bytes(self.take(1), "big")

    def flag(self) -> bool:
        """Return one of two."""
        return bool(self.byte() & 1)

    def one_of(self, options: Sequence[_T]) -> _T:
        """Return one of at most 256."""
        return options[self.byte() % len(options)]

    def number(self) -> int:
        """Return a number from 0 up, mostly a small one."""
        return int.from_bytes(self.take(self.byte() % 9), "big")

    def chunk(self) -> bytes:
        """Return some bytes, at most 255."""
        return self.take(self.byte())

    def text(self) -> str:
        """Return a text without halves of surrogate pairs."""
        return self.chunk().decode(errors="replace")

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self._data) - self._at)

    def take(self, size: int) -> bytes:
        """Return so many bytes, or those that are left."""
        taken = self._data[self._at : self._at + size]
        self._at += len(taken)
        return taken


def cut(data: bytes, seed: int) -> Iterator[bytes]:
    """Yield bytes as a socket may, in parts: whole with seed 0, one by one with 1, in any others with more."""
    if seed <= 1:
        yield from (bytes((byte,)) for byte in data) if seed else (data,)
        return
    chance = random.Random(seed)  # noqa: S311 - no secret
    at = 0
    while at < len(data):
        size = chance.choice((1, 2, 3, 7, 40, 1_000))
        yield data[at : at + size]
        at += size
