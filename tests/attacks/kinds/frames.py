"""Floods of frames from guests who are in: text, pings, fragments without end, and all of it after the close as well."""

from __future__ import annotations

from typing import Final

import anyio

from tests.attacks.peer import CONT, PING, PONG, TEXT, frame
from tests.attacks.target import Attack, Target

A_SECOND: Final = 20
"""Guests, each of whom says as much as the socket takes until it is closed, and for a while after."""

BURST_BYTES: Final = 65_536
AFTER_S: Final = 2.0

BELOW_AT_A_TIME: Final = 40
BELOW_A_SECOND: Final = 150
_BEAT_S: Final = 0.1


def _burst(one: bytes) -> bytes:
    return one * (BURST_BYTES // len(one))


def _attack(name: str, about: str, burst: bytes, first: bytes = b"", codes: tuple[str, ...] = ("4005",)) -> Attack:
    async def run(target: Target, until: anyio.Event) -> None:
        async def one() -> None:
            if (guest := await target.guest()) is not None:
                with guest:
                    await guest.say(first)
                    target.note(await guest.pour(burst))
                    with anyio.move_on_after(AFTER_S):
                        await guest.pour(burst)

        await target.flood(A_SECOND, one, until)

    return Attack(
        name=name,
        about=f"{A_SECOND} guests a second send {about} until they are closed, and {AFTER_S:g} s longer",
        limits=("frames_s_max", "bytes_s_max", "frame_max_bytes", "close_timeout_s"),
        run=run,
        codes=frozenset({*codes, "4001", "4002", "4007"}),
        counted=("pushway_closes_total",),
        memory_mib=32.0,
        because="what one read takes from a socket (256 KiB) and what waits of the answers, of the few that are open at a time",
    )


FRAMES: Final = _attack("frames", 'text frames ({"type":"ping"})', _burst(frame(TEXT, b'{"type":"ping"}')))
PINGS: Final = _attack("pings", "empty protocol pings", _burst(frame(PING)))
PONGS: Final = _attack("pongs", "pongs that nobody asked for", _burst(frame(PONG, b"x" * 100)))
FRAGMENTS: Final = _attack(
    "fragments", "empty fragments of one message", _burst(frame(CONT, bits=0)), first=frame(TEXT, bits=0)
)


async def _stay_below(target: Target, until: anyio.Event) -> None:
    burst = frame(TEXT, b'{"type":"ping"}') * round(BELOW_A_SECOND * _BEAT_S)

    async def one() -> None:
        if (guest := await target.guest()) is not None:
            with guest:
                target.note(await guest.pour(burst, _BEAT_S))

    await target.hold(BELOW_AT_A_TIME, one, until)


BELOW: Final = Attack(
    name="below",
    about=f"{BELOW_AT_A_TIME} guests with {BELOW_A_SECOND} frames a second each, which is allowed",
    limits=("frames_s_max",),
    run=_stay_below,
    codes=frozenset({"4001", "4005"}),
    counted=("pushway_tokens_checked_total",),
    memory_mib=16.0,
    because="every frame is answered at once",
)
