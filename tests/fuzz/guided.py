"""Run one target under atheris: python -m tests.fuzz.guided TARGET [what libFuzzer takes].

A process of its own: libFuzzer ends it when it is done, and with the first input that breaks something.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, Final

WATCHED: Final = ("edge", "router", "websockets", "jwt", "urllib", "json", "tomllib")
"""Packages whose branches guide the search."""


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    atheris: Any = importlib.import_module("atheris")
    targets = importlib.import_module("tests.fuzz.targets")
    atheris.enabled_hooks.add("str")
    with atheris.instrument_imports(include=[*WATCHED]):
        target = targets.load(sys.argv[1])
    # To choose among inputs it starts itself anew by a shell, and its name is how.
    atheris.Setup([f"{sys.executable} -m tests.fuzz.guided {sys.argv[1]}", *sys.argv[2:]], target.run)
    with targets.silence():
        atheris.Fuzz()


if __name__ == "__main__":
    main()
