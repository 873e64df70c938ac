"""Inputs made of others by chance, without looking at what they reach. Pure, and the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

_INTERESTING: Final = (
    *(b"\x00", b"\xff", b"\x7f", b"\x80", b"\n", b"\r\n", b" ", b"-", b",", b";", b"=", b"%", b":", b'"', b"\\", b"{", b"}"),
    *(b"[" * 40, b"0" * 20, b"1e999", b"NaN", b"null", b"\\ud800", b"\xed\xa0\x80", "\u2028".encode(), b"9007199254740992"),
)

_CHANGES_MAX: Final = 4

_Change = Callable[[random.Random, bytes, int, bytes], bytes]
"""Changes an input at a place, with another one at hand."""


def _flip(chance: random.Random, data: bytes, at: int, _other: bytes) -> bytes:
    return data[:at] + bytes((data[at] ^ 1 << chance.randrange(8),)) + data[at + 1 :] if at < len(data) else data + b"\x00"


def _replace(chance: random.Random, data: bytes, at: int, _other: bytes) -> bytes:
    return data[:at] + bytes((chance.randrange(256),)) + data[at + 1 :]


def _insert(chance: random.Random, data: bytes, at: int, _other: bytes) -> bytes:
    return data[:at] + chance.choice(_INTERESTING) + data[at:]


def _drop(chance: random.Random, data: bytes, at: int, _other: bytes) -> bytes:
    return data[:at] + data[at + 1 + chance.randrange(8) :]


def _repeat(chance: random.Random, data: bytes, at: int, _other: bytes) -> bytes:
    return data[:at] + data[at : at + 1 + chance.randrange(16)] * 2 + data[at:]


def _cross(chance: random.Random, data: bytes, at: int, other: bytes) -> bytes:
    return data[:at] + other[chance.randrange(len(other) + 1) :]


_CHANGES: Final[tuple[_Change, ...]] = (_flip, _replace, _insert, _drop, _repeat, _cross)


def mutants(inputs: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Yield, without end, inputs made of these."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    while True:
        data = chance.choice(inputs)
        for _ in range(1 + chance.randrange(_CHANGES_MAX)):
            data = chance.choice(_CHANGES)(chance, data, chance.randrange(len(data) + 1), chance.choice(inputs))
        yield data
