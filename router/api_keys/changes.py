"""What is done with a file of keys: its keys before, its keys after. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from router.api_keys.key import ApiKey, KeysBroken, check_key_name, digest_of, fingerprint
from router.api_keys.scopes import Scope

Keys = tuple[ApiKey, ...]


def make(keys: Keys, name: str, secret: str, scopes: Iterable[Scope], expires_at: datetime | None) -> Keys:
    """Return the keys with one of a new name.

    Raises:
        KeysBroken: when the name is none, or there is one of it.
    """
    if any(key.name == check_key_name(name) for key in keys):
        raise KeysBroken(f"there is a key of {name!r}: `pushway keys rotate {name}` gives it another")
    return (*keys, ApiKey(name, digest_of(secret), frozenset(scopes), expires_at))


def rotate(keys: Keys, name: str, secret: str, now: datetime, overlap: timedelta, expires_at: datetime | None) -> Keys:
    """Return the keys with another of a name, with the scopes of its newest; the older ones end with the overlap.

    Those of the name that have ended go.

    Raises:
        KeysBroken: when there is none of the name.
    """
    newest = _named(keys, name)[-1]
    end = (now + overlap).replace(microsecond=0)
    kept = [_ending(key, end) if key.name == name else key for key in keys]
    new = ApiKey(name, digest_of(secret), newest.scopes, expires_at)
    return (*(key for key in kept if key.name != name or not key.is_expired(now)), new)


def drop(keys: Keys, name: str, begin: str = "") -> Keys:
    """Return the keys without those of a name, or without the one whose fingerprint begins so.

    Raises:
        KeysBroken: when there is none such.
    """
    gone = [key for key in _named(keys, name) if fingerprint(key).startswith(begin.lower())]
    if not gone:
        raise KeysBroken(f"no key of {name!r} has the hash {begin!r}; `pushway keys list` shows those there are")
    return tuple(key for key in keys if key not in gone)


def _named(keys: Keys, name: str) -> Sequence[ApiKey]:
    found = [key for key in keys if key.name == name]
    if not found:
        raise KeysBroken(f"there is no key of {name[:64]!r}; `pushway keys list` shows those there are")
    return found


def _ending(key: ApiKey, end: datetime) -> ApiKey:
    return key if key.expires_at is not None and key.expires_at <= end else replace(key, expires_at=end)
