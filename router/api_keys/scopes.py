"""What an API key may be good for. Each operation over HTTP asks for one of these scopes, or for no key at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Scope = Literal["send", "read", "manage", "tokens"]

SCOPES: Final[Mapping[Scope, str]] = {
    "send": "append messages, call back those that wait",
    "read": "look: at messages, users, topics, nodes",
    "manage": "end sessions, change subscriptions, erase people",
    "tokens": "have tokens issued, checked and revoked",
}
"""Scope → what it lets back ends do."""

ALL_SCOPES: Final = frozenset(SCOPES)
