"""A key, and the text of a file of them: TOML, one table a key. Pure.

    [[key]]
    name = "billing"
    hash = "sha256:b98a…"
    scopes = ["send"]
    expires_at = 2026-11-24T12:00:00Z

A key is 256 random bits, so nobody finds one by trying, and its plain SHA-256 is enough to know it by: a slow hash, as for
passwords, makes up for what people choose, and would have each request pay for it. The file holds hashes only, so who reads it
has no key; who writes it has them all. Several keys of one name may be good at once, while a back end changes from one to
the other.

What an error says quotes no value but names: somebody may have put the key itself where its hash belongs.
"""

from __future__ import annotations

import json
import re
import secrets
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from router.api_keys.scopes import SCOPES, Scope
from router.errors import SetupError

KEY_PREFIX: Final = "pwk_"
"""So that people and scanners of repositories know one when they see it."""

KEY_BYTES: Final = 32

KEYS_MAX: Final = 256
"""Most keys in a file: each is compared with what each request shows."""

HASH_PREFIX: Final = "sha256:"

SETTING_NAME: Final = "api_key"
"""Whose the key of the setting is; no key of a file may have this name."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASH: Final = re.compile(HASH_PREFIX + "[0-9a-f]{64}")
_MEMBERS: Final = frozenset({"name", "hash", "scopes", "expires_at"})

_HEADER: Final = """\
# API keys, as `pushway keys` writes them: hashes, no keys. Services read it anew when it changes; comments are not kept.
"""


class KeysBroken(SetupError):
    """A file of keys cannot be read or breaks a rule; the text says which."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key, which is known by its hash alone.

    Attributes:
        name: whose it is; stands in logs.
        digest: SHA-256 of the key, 32 bytes.
        scopes: what it is good for.
        expires_at: from when on it is good for nothing; None is never.
    """

    name: str
    digest: bytes
    scopes: frozenset[Scope]
    expires_at: datetime | None = None

    def is_expired(self, now: datetime) -> bool:
        """Tell whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now


def new_secret() -> str:
    """Return a new key, as back ends show it: `pwk_` and 43 characters of base64url."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)


def digest_of(shown: str | bytes) -> bytes:
    """Return what a key is known by."""
    return sha256(shown.encode() if isinstance(shown, str) else shown).digest()


def check_key_name(name: str) -> str:
    """Return the name, if a key may have it.

    Raises:
        KeysBroken: when it may not.
    """
    if not _NAME.fullmatch(name):
        raise KeysBroken(f"{name[:64]!r} is no name of a key: 1 to 64 of A-Z a-z 0-9 . _ -, a letter or digit first")
    if name == SETTING_NAME:
        raise KeysBroken(f"no key in a file may have the name {SETTING_NAME!r}: that is the key of the setting")
    return name


def parse_keys(text: str) -> tuple[ApiKey, ...]:
    """Return the keys that a file says.

    Raises:
        KeysBroken: when it is no such file.
    """
    try:
        found = tomllib.loads(text)
    except (ValueError, RecursionError) as exc:  # also for numbers of thousands of digits, and for what is nested too deeply
        raise KeysBroken(f"it is not TOML ({exc})") from None
    tables = found.pop("key", [])
    if found or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise KeysBroken("it has something else than tables [[key]]")
    if len(tables) > KEYS_MAX:
        raise KeysBroken(f"it has {len(tables)} keys, and {KEYS_MAX} are the most; `pushway keys drop` removes some")
    return _distinct(_parse(table, number) for number, table in enumerate(tables, start=1))


def to_toml(keys: Iterable[ApiKey]) -> str:
    """Return the text of a file with these keys."""
    return "\n".join([_HEADER, *map(_table, keys)])


def fingerprint(key: ApiKey) -> str:
    """Return enough of the hash for people to tell one key of a name from another."""
    return key.digest.hex()[:8]


def _distinct(keys: Iterable[ApiKey]) -> tuple[ApiKey, ...]:
    by_digest: dict[bytes, ApiKey] = {}
    for key in keys:
        if key.digest in by_digest:
            raise KeysBroken(f"{by_digest[key.digest].name!r} and {key.name!r} are one key; give each back end its own")
        by_digest[key.digest] = key
    return tuple(by_digest.values())


def _parse(table: Mapping[str, Any], number: int) -> ApiKey:
    name = table.get("name")
    try:
        return ApiKey(
            check_key_name(name if isinstance(name, str) else ""),
            _digest(table.get("hash")),
            _scopes(table.get("scopes")),
            _expiry(table),
        )
    except KeysBroken as exc:
        raise KeysBroken(f"key {number}: {exc}") from None


def _digest(said: object) -> bytes:
    if not isinstance(said, str) or not _HASH.fullmatch(said):
        raise KeysBroken(f'its hash is not "{HASH_PREFIX}" and 64 hexadecimal digits; `pushway keys make` makes a key')
    return bytes.fromhex(said.removeprefix(HASH_PREFIX))


def _scopes(said: object) -> frozenset[Scope]:
    known = [scope for scope in SCOPES if isinstance(said, list) and scope in said]
    if not isinstance(said, list) or not known or len(known) != len(said):
        raise KeysBroken(f"its scopes are not one or more of {', '.join(SCOPES)}, each once")
    return frozenset(known)


def _expiry(table: Mapping[str, Any]) -> datetime | None:
    # A misspelt name must not make a key that never expires.
    if unknown := sorted(table.keys() - _MEMBERS):
        raise KeysBroken(f"it has {unknown[0][:64]!r}; a key has {', '.join(sorted(_MEMBERS))}")
    return read_time(table["expires_at"]) if "expires_at" in table else None


def read_time(said: object) -> datetime:
    """Return a moment that stands as RFC 3339, be it TOML's own or a text.

    Raises:
        KeysBroken: when it is none.
    """
    if isinstance(said, str):
        try:
            said = datetime.fromisoformat(said)
        except ValueError:
            said = None
    if not isinstance(said, datetime) or said.tzinfo is None:
        raise KeysBroken("its end is no moment as in 2026-12-31T00:00:00Z")
    try:
        return said.astimezone(UTC)
    except OverflowError:
        raise KeysBroken("its end is before the year 1 or behind the year 9999") from None


def _table(key: ApiKey) -> str:
    lines = [
        "[[key]]",
        f'name = "{key.name}"',
        f'hash = "{HASH_PREFIX}{key.digest.hex()}"',
        f"scopes = {json.dumps([scope for scope in SCOPES if scope in key.scopes])}",
    ]
    if key.expires_at is not None:
        # Not by strftime, which writes years before 1000 with fewer digits than TOML reads.
        lines.append(f"expires_at = {key.expires_at.replace(tzinfo=None).isoformat(timespec='seconds')}Z")
    return "\n".join(lines) + "\n"
