"""Tokens that cost as much as a token can before it is refused: long, of keys unknown, read the long way."""

from __future__ import annotations

import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final

from router.auth.tokens import TOKEN_MAX_CHARS
from tests.attacks.target import Attack
from tests.attacks.token_flood import A_SECOND, flood_of


def _part(said: bytes) -> str:
    return urlsafe_b64encode(said).rstrip(b"=").decode()


def _headed(token: str, **header: Any) -> str:  # noqa: ANN401 - JSON
    head, body, signature = token.split(".")
    padded = json.loads(_decoded(head)) | header
    return f"{_part(json.dumps(padded).encode())}.{body}.{signature}"


def _decoded(part: str) -> bytes:

    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _unknown_key(token: str) -> str:
    return _headed(token, kid=secrets.token_hex(16))


def _deep(token: str) -> str:
    return f"{_part(b'[' * 5_900)}.{token.partition('.')[2]}"[:TOKEN_MAX_CHARS]


def _wide(token: str) -> str:
    return _headed(token, **{f"{n:x}": n for n in range(300)})


def _long(token: str) -> str:
    head, body, signature = token.split(".")
    return f"{head}.{_part(_decoded(body)[:-1] + b',' + b' ' * 5_000 + b'}')}.{signature}"


ATTACK: Final = Attack(
    name="dear-tokens",
    about=f"{A_SECOND} connects a second with tokens of 8 KB, of unknown keys, nested 5,900 deep or with 300 headers",
    limits=("handshakes_address_s_max", "handshakes_s_max"),
    run=flood_of((_unknown_key, _deep, _wide, _long)),
    codes=frozenset({"4001", "4005", "4007", "4500"}),
    counted=('pushway_tokens_checked_total{result="refused"}',),
    memory_mib=16.0,
    because="nothing is kept of a token that was refused, but the names of 1,000 unknown keys",
)
