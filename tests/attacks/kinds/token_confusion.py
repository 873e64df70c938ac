"""Tokens that ask to be believed in another way, or hold for somebody else: all that tests know, by header and by frame."""

from __future__ import annotations

import json
from itertools import count, cycle
from typing import Any, Final

import anyio

from tests.attacks.peer import TEXT, Peer, frame
from tests.attacks.target import Attack, Target

A_SECOND: Final = 100

_HEADER_MAX: Final = 8_000
_DEVICE: Final = "?device=phone"


async def run(target: Target, until: anyio.Event) -> None:
    """Try each; a welcome got in, and so does whoever ends or becomes the victim's session."""
    tokens, victim = cycle(target.doors.forgeries), f"victim-{target.own}"

    async def one() -> None:
        with await target.peer() as peer:
            await _come(peer, next(tokens))
            target.note(await peer.ending(heard=judge))

    def judge(said: dict[str, Any]) -> None:
        if said["type"] == "welcome":
            target.got_in(f"as {said['user']}")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_stay, target, victim)
        tasks.start_soon(_swap, target, victim, until)
        await target.flood(A_SECOND, one, until)
        tasks.cancel_scope.cancel()


async def _come(peer: Peer, token: str) -> None:
    """Come with a token, by header where it can be one."""
    in_header = token.isascii() and token.isprintable() and token.strip() == token and len(token) < _HEADER_MAX
    if await peer.upgrade(token=token if in_header else None) and not in_header:
        await peer.say(frame(TEXT, json.dumps({"type": "connect", "token": token}).encode()))


async def _stay(target: Target, victim: str) -> None:
    """Be the victim, with a device, until cancelled."""
    peer = await target.guest(_DEVICE, token=target.doors.sign(victim))
    if peer is not None:
        with peer:
            target.seen["victims"] += 1
            target.got_in(f"the victim's session ended with {await peer.ending()}")


async def _swap(target: Target, victim: str, until: anyio.Event) -> None:
    """Come as others with the victim's device, and give the victim's token, and forged ones, to go on with."""
    others = count()

    def judge(said: dict[str, Any]) -> None:
        if said["type"] == "error":
            target.seen[said["code"]] += 1
        if said["type"] == "extended":
            target.got_in("with another's token")

    while not until.is_set():
        peer = await target.guest(_DEVICE, token=target.doors.sign(f"{target.own}-{next(others)}"))
        if peer is None:
            await anyio.sleep(0.1)
            continue
        with peer, anyio.move_on_after(1):
            for token in (target.doors.sign(victim), target.doors.forgeries[next(others) % len(target.doors.forgeries)]):
                await peer.say(frame(TEXT, json.dumps({"type": "token", "token": token}).encode()))
            await peer.ending(heard=judge)


ATTACK: Final = Attack(
    name="token-confusion",
    about=f"{A_SECOND} tokens a second: `none`, HS256 by the public key, odd `kid`, expired, another audience, user or device",
    limits=("handshakes_address_s_max", "handshakes_s_max"),
    run=run,
    codes=frozenset({"4001", "4003", "4005", "4007", "4500", "4504"}),
    counted=('pushway_tokens_checked_total{result="refused"}',),
    memory_mib=16.0,
    because="nothing is kept of a token that was refused",
    reached=("4500", "forbidden", "victims"),
)
