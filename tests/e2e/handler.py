"""An application to be killed: appends the number in each message to a file, which is how it handles it.

Arguments: the file, the user's token, the cursors' file or `-`, the device or `-`, ack_every, ack_interval_s, the edges'
addresses. The file is there once a session is open.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from edge.client import Client, FileCursors, MemoryCursors, Status, Welcomed


async def handle(*words: str) -> None:
    """Handle messages until killed."""
    file, token, cursors, device, every, interval_s, *urls = words

    async def give() -> str:
        return token

    def tell(status: Status) -> None:
        if isinstance(status, Welcomed):
            Path(file).touch()

    async with Client(
        urls,
        give,
        device=None if device == "-" else device,
        cursors=MemoryCursors() if cursors == "-" else FileCursors(cursors),
        ack_every=int(every),
        ack_interval_s=float(interval_s),
        on_status=tell,
    ) as client:
        async for message in client:
            with Path(file).open("a") as handled:  # noqa: ASYNC230 - nothing else happens here
                handled.write(f"{message.body['n']}\n")


if __name__ == "__main__":
    anyio.run(handle, *sys.argv[1:])
