#!/usr/bin/env python
"""Print a user's messages; whatever happens to this process, the next one goes on behind what was printed.

TOKEN=$(pushway token alice) .venv/bin/python scripts/examples/listen.py ws://127.0.0.1:8002/v1/connect alice.json
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import anyio

from edge.client import Client, FileCursors


async def token() -> str:
    """Return the token; an application asks its own back end for one."""
    return os.environ["TOKEN"]


async def listen(url: str, path: str) -> None:
    """Print until Ctrl-C."""
    async with Client([url], token, cursors=FileCursors(path)) as client:
        async for message in client:
            print(message.to, message.text or message.body, flush=True)  # noqa: T201 - what it is for


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        anyio.run(listen, sys.argv[1], sys.argv[2])
