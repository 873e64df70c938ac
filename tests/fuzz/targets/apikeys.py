"""A file of API keys, and what somebody shows for one: keys, or `KeysBroken`; what is written is read back; nobody is let in.

The first byte says whether the bytes behind it are a file, or the choices of keys and then what is shown.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from router.api_keys.file import _text
from router.api_keys.key import (
    HASH_PREFIX,
    KEYS_MAX,
    ApiKey,
    KeysBroken,
    check_key_name,
    digest_of,
    new_secret,
    parse_keys,
    to_toml,
)
from router.api_keys.ring import Keyring
from router.api_keys.scopes import SCOPES
from tests.fuzz.inputs import Choices

_HASH: Final = HASH_PREFIX + "ab" * 32
_GOOD: Final = (
    f'[[key]]\nname = "billing"\nhash = "{_HASH}"\nscopes = ["send", "read"]\nexpires_at = 2026-11-24T12:00:00Z\n'.encode()
)
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_KEYS_MADE_MAX: Final = 6

SEEDS: Final = (
    b"\x00" + _GOOD,
    b"\x00" + _GOOD + _GOOD.replace(b"ab", b"cd"),
    b"\x00" + _GOOD * 2,
    b"\x00" + _GOOD.replace(b"send", b"all"),
    b"\x00" + _GOOD.replace(b'["send", "read"]', b"[[]]"),
    b"\x00" + _GOOD.replace(b"2026-11-24T12:00:00Z", b"0001-01-01T00:00:00+23:59"),
    b"\x00" + _GOOD.replace(b"2026-11-24T12:00:00Z", b'"9999-12-31T23:59:59-01:00"'),
    b"\x00" + _GOOD.replace(b"2026-11-24T12:00:00Z", b"12:00:00"),
    b"\x00" + _GOOD.replace(b"expires_at", b"expires"),
    b"\x00key = [1]\n",
    b"\x00[key]\n",
    b"\x00a = " + b"[" * 1_500,
    b"\x00a = " + b"9" * 4_090,
    b"\x00\xff",
    b"\x01\x02\x05alpha\x03\x01\x05beta2\x05\x02\x02show",
    b"\x01" + bytes(range(60)),
)


def run(data: bytes) -> None:
    """Read a file, or write one and look for what is shown."""
    choices = Choices(data)
    if choices.flag():
        _write_and_find(choices)
    else:
        _read(choices.rest())


def _read(raw: bytes) -> None:
    try:
        keys = parse_keys(_text(raw))
    except KeysBroken as exc:
        assert "ab" * 32 not in str(exc), "a hash that was quoted may be a key"
        str(exc).encode()
        return
    assert len(keys) <= KEYS_MAX
    assert len({key.digest for key in keys}) == len(keys)
    for key in keys:
        assert key.scopes <= SCOPES.keys()
        assert key.scopes
        key.is_expired(_NOW)
    again = parse_keys(to_toml(keys))
    assert [(key.name, key.digest, key.scopes) for key in again] == [(key.name, key.digest, key.scopes) for key in keys]


def _write_and_find(choices: Choices) -> None:
    secrets: list[str] = []
    keys: list[ApiKey] = []
    while choices and len(keys) < _KEYS_MADE_MAX:
        try:
            name = check_key_name(choices.text())
        except KeysBroken:
            name = "a"
        bits = choices.byte()
        scopes = frozenset(scope for at, scope in enumerate(SCOPES) if bits >> at & 1) or frozenset(SCOPES)
        secrets.append(new_secret())
        expires_at = datetime.fromtimestamp(choices.number() % 2**37, UTC) if bits & 16 else None
        keys.append(ApiKey(name, digest_of(secrets[-1]), scopes, expires_at))
    assert list(parse_keys(to_toml(keys))) == keys
    ring = Keyring("the key of the setting", keys)
    assert [ring.find(secret.encode()) for secret in secrets] == keys
    assert ring.find(choices.rest()) is None
    for secret in secrets:
        at = choices.byte() % len(secret)
        assert ring.find((secret[:at] + secret[at + 1 :]).encode()) is None
