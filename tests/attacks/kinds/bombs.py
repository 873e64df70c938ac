"""Compression bombs: frames marked as compressed, from clients who offered to; the edge has agreed to nothing of the kind."""

from __future__ import annotations

import zlib
from typing import Final

import anyio

from tests.attacks.peer import FIN, RSV1, TEXT, frame
from tests.attacks.target import Attack, Target

A_SECOND: Final = 100
UNPACKED_BYTES: Final = 50_000_000

_OFFER: Final = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"


def _bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(bytes(UNPACKED_BYTES)) + packer.flush(zlib.Z_SYNC_FLUSH)


async def run(target: Target, until: anyio.Event) -> None:
    """Send bombs."""
    bomb = frame(TEXT, _bomb(), bits=FIN | RSV1)

    async def one() -> None:
        with await target.peer() as peer:
            if await peer.upgrade(more=_OFFER):
                await peer.say(bomb)
            target.note(await peer.ending())

    await target.flood(A_SECOND, one, until)


ATTACK: Final = Attack(
    name="bombs",
    about=f"{A_SECOND} connects a second that send 49 KB which would unpack to 50 MB",
    limits=("handshakes_address_s_max",),
    run=run,
    codes=frozenset({"1002", "4001", "4005", "4007"}),
    counted=('pushway_closes_total{code="1002"}',),
    memory_mib=16.0,
    because="nothing is unpacked",
)
