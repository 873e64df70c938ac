"""Every target over the inputs that are kept, and a little beyond them."""

from __future__ import annotations

from itertools import islice
from typing import Final

import pytest

from tests.fuzz.corpus import kept
from tests.fuzz.mutation import mutants
from tests.fuzz.targets import NAMES, load, silence

ROUNDS: Final = 300
"""Inputs made by chance, the same in each run: scripts/fuzz is what searches."""


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_and_a_little_beyond(name: str) -> None:
    """No promise is broken by any of it."""
    inputs = [*load(name).SEEDS, *kept(name)]
    with silence():
        for data in [b"", *inputs, *islice(mutants(inputs, 1), ROUNDS)]:
            _run(name, data)


def _run(name: str, data: bytes) -> None:
    """Run an input, and say how to run it again where it breaks something."""
    try:
        load(name).run(data)
    except Exception as exc:
        exc.add_note(f"scripts/fuzz {name} --input {repr(data)!r}")
        raise
