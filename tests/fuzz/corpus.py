"""The files of inputs that are kept: an input a line, as Python writes bytes, so that a person can read what a change adds.

What a line is kept for stands in no file: an input is worth keeping when it reaches code that none before it did, or when it
once broke something. The latter are in the tests of what they broke, too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).with_name("corpora")

INPUT_MAX_BYTES: Final = 1_024
"""Longest input kept: a larger one is nearly always a smaller one with more in it."""

_INPUTS_MAX: Final = 250
_BYTES_MAX: Final = 16_384
"""Most inputs kept of a target, and about how many bytes they are together. They are run by every run of the tests."""


def file_of(name: str) -> Path:
    """Return where the inputs of a target are kept."""
    return FOLDER / f"{name}.txt"


def kept(name: str) -> list[bytes]:
    """Return the inputs that are kept of a target."""
    file = file_of(name)
    return [read_line(line) for line in file.read_text(encoding="ascii").splitlines()] if file.exists() else []


def keep(name: str, inputs: Iterable[bytes]) -> int:
    """Keep these inputs of a target in place of those that were, the shortest first, and return how many."""
    ordered = sorted({one for one in inputs if len(one) <= INPUT_MAX_BYTES}, key=lambda one: (len(one), one))[:_INPUTS_MAX]
    sizes = accumulate(map(len, ordered))
    chosen = [one for one, size in zip(ordered, sizes, strict=True) if size <= _BYTES_MAX]
    file_of(name).write_text("".join(f"{line_of(one)}\n" for one in chosen), encoding="ascii")
    return len(chosen)


def line_of(data: bytes) -> str:
    """Return an input as a line."""
    return repr(data)


def read_line(line: str) -> bytes:
    """Return the input that a line stands for.

    Raises:
        ValueError: when it is none.
    """
    try:
        data = ast.literal_eval(line)
    except SyntaxError as exc:
        raise ValueError(f"{line[:80]!r} is no bytes literal") from exc
    if not isinstance(data, bytes):
        raise ValueError(f"{line[:80]!r} is no bytes literal")  # noqa: TRY004 - the line is wrong, not a caller's type
    return data


def unpack(inputs: Iterable[bytes], folder: Path) -> None:
    """Write inputs as files, as libFuzzer reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        (folder / sha256(data).hexdigest()).write_bytes(data)


def pack(folder: Path) -> list[bytes]:
    """Return the inputs in a folder of files."""
    return [file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()]
