"""The settings: that they are safe to run with. That they are accepted at all is known before anybody gets here."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from router.doctor.findings import Finding, error, note, ok, warning
from router.hosts import is_loopback
from router.settings import SECRETS, Settings

_WELL_KNOWN: Final = ("changeme", "secret", "password", "example", "test", "what your back end shows")
_OPEN_TO_OTHERS: Final = 0o077


def judge(settings: Settings, file: Path | None, file_mode: int | None, key_mode: int | None) -> list[Finding]:
    """Return what is to be thought of settings.

    Args:
        settings: those in force.
        file: where they come from.
        file_mode: the permission bits of that file; None where there is none.
        key_mode: those of auth's key file; None where this machine has none.
    """
    found = [*_judge_files(settings, file, file_mode, key_mode), *_judge_api(settings), *_judge_passwords(settings)]
    where = str(file) if file else "the defaults and the environment"
    return [ok(f"accepted, from {where}"), *found]


def _judge_files(settings: Settings, file: Path | None, file_mode: int | None, key_mode: int | None) -> Iterator[Finding]:
    if file is None:
        yield note("no file of settings was given or found", "--config FILE, or PUSHWAY_CONFIG, names the one of the services")
    secret = any(name in settings.model_fields_set for name in SECRETS)
    if file_mode is not None and secret and file_mode & _OPEN_TO_OTHERS:
        yield warning(f"{file} holds secrets and others may read it (mode {file_mode:04o})", f"chmod 600 {file}")
    if key_mode is not None and key_mode & _OPEN_TO_OTHERS:
        key_file = settings.auth_key_file
        yield warning(f"{key_file} signs tokens and others may read it (mode {key_mode:04o})", f"chmod 600 {key_file}")


def _judge_api(settings: Settings) -> Iterator[Finding]:
    key = settings.api_key
    if not key and not settings.api_keys_file:
        yield warning(
            "api_key is not set, nor is api_keys_file: auth and the API do not start",
            "set api_key, or PUSHWAY_API_KEY_FILE, to what `openssl rand -base64 32` prints, or see `pushway keys`",
        )
    elif key and any(word in key.lower() for word in _WELL_KNOWN):
        yield warning(
            "api_key can be guessed: it is made of well-known words",
            "set it to what `openssl rand -base64 32` prints, for all services and back ends",
        )
    if settings.api_page and not is_loopback(settings.api_host):
        yield error(
            f"the page for development is served on {settings.api_host}: whoever reaches it gets a token for anybody",
            "leave api_page out of the settings of anything that others can reach",
        )


def _judge_passwords(settings: Settings) -> Iterator[Finding]:
    for name, url in (("redis_url", settings.redis_url), ("mongo_url", settings.mongo_url)):
        parts = urlsplit(url.partition(",")[0])
        # A certificate may stand for the person.
        secured = bool(parts.password or parts.username) or parts.scheme == "rediss" or "tls" in url
        if not secured and parts.scheme != "unix" and not is_loopback(parts.hostname or ""):
            yield warning(
                f"{name} leads to {parts.hostname} without a password", f"give the server one, and put it into {name}"
            )


def mode_of(path: Path | None) -> int | None:
    """Return the permission bits of a file; None where it cannot be asked for them."""
    try:
        return None if path is None else stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None


async def examine(settings: Settings, file: Path | None) -> list[Finding]:
    """Return what is to be thought of the settings in force."""
    return judge(settings, file, mode_of(file), mode_of(settings.auth_key_file))
