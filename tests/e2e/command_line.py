"""`pushway` as it is typed, for a system that runs."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

from tests.stack import Stack

PUSHWAY: Final = (sys.executable, "-m", "router.commands")

TIMEOUT_S: Final = 60.0

# A script's background jobs ignore SIGINT, and so would all that tests started by one run.
HEARS_CTRL_C: Final = ("env", "--default-signal=INT")


def run(stack: Stack, *words: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    """Return what a command printed and ended with, given what is typed into it."""
    return subprocess.run(
        [*PUSHWAY, *words],
        env=os.environ | {"PUSHWAY_CONFIG": str(stack.config), "COLUMNS": "160"},
        input=answer,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
