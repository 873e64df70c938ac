"""A flood of tokens that prove nothing: no tokens at all, ones that look right, and ones that another key has signed."""

from __future__ import annotations

import secrets
from typing import Final

from tests.attacks.target import Attack
from tests.attacks.token_flood import A_SECOND, flood_of


def _noise(token: str) -> str:
    return secrets.token_urlsafe(len(token))


def _unsigned(token: str) -> str:
    return token.rpartition(".")[0] + "."


def _forged(token: str) -> str:
    head, _, signature = token.rpartition(".")
    return f"{head}.{secrets.token_urlsafe(64)[: len(signature)]}"


ATTACK: Final = Attack(
    name="bad-tokens",
    about=f"{A_SECOND} connects a second with tokens that are noise, unsigned or forged",
    limits=("handshakes_address_s_max", "handshakes_s_max"),
    run=flood_of((_noise, _unsigned, _forged, _forged)),
    codes=frozenset({"4001", "4005", "4007", "4500"}),
    counted=('pushway_tokens_checked_total{result="refused"}',),
    memory_mib=16.0,
    because="nothing is kept of a token that was refused",
)
