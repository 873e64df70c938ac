"""A flood of tokens that prove nothing: no tokens at all, ones that look right, and ones that another key has signed."""

from __future__ import annotations

import secrets
from itertools import cycle
from typing import Final

import anyio

from tests.attacks.target import Attack, Target

A_SECOND: Final = 300


def _noise(token: str) -> str:
    return secrets.token_urlsafe(len(token))


def _unsigned(token: str) -> str:
    return token.rpartition(".")[0] + "."


def _forged(token: str) -> str:
    head, _, signature = token.rpartition(".")
    return f"{head}.{secrets.token_urlsafe(64)[: len(signature)]}"


WAYS: Final = (_noise, _unsigned, _forged, _forged)


async def run(target: Target, until: anyio.Event) -> None:
    """Try tokens, again and again."""
    ways = cycle(WAYS)

    async def one() -> None:
        with await target.peer() as peer:
            await peer.upgrade(token=next(ways)(target.token()))
            target.note(await peer.ending())

    await target.flood(A_SECOND, one, until)


ATTACK: Final = Attack(
    name="bad-tokens",
    about=f"{A_SECOND} connects a second with tokens that are noise, unsigned or forged",
    limits=("handshakes_address_s_max", "handshakes_s_max"),
    run=run,
    codes=frozenset({"4001", "4005", "4007", "4500"}),
    counted=('pushway_tokens_checked_total{result="refused"}',),
    memory_mib=16.0,
    because="nothing is kept of a token that was refused",
)
