"""`pushway acl`."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import unquote, urlsplit

import typer

from router.commands.options import AsJson, FoundConfig, people_settings
from router.commands.output import print_json
from router.errors import SettingError
from router.redis_users import USERS, acl_lines

_PASSWORD_BYTES: Final = 32


def acl(
    passwords: Annotated[
        Path | None,
        typer.Option("--passwords", metavar="DIR", help="Make a password for each user, and keep its redis_url in DIR."),
    ] = None,
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Print the Redis users that services need, with what each may do, as an ACL file.

    It is for the prefix in the settings. With --passwords each user's redis_url is kept in DIR/<user>.url, which
    PUSHWAY_REDIS_URL_FILE may name; who has one there already keeps it. Without, nobody can log in yet: it is to be read.

    Example: pushway acl --passwords /etc/pushway/redis
    """
    settings = people_settings(config)
    digests = {} if passwords is None else _digests(passwords, settings.redis_url)
    lines = list(acl_lines(settings.prefix, digests))
    if as_json:
        print_json([{"user": line.split(" ")[1], "line": line} for line in lines])
    else:
        typer.echo("\n".join(lines))


def _digests(folder: Path, redis_url: str) -> dict[str, str]:
    """Return what Redis is to know of each user's password; passwords are made where there are none.

    Raises:
        SettingError: when they cannot be kept, or what is kept is no address.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return {user.name: _digest(_kept(folder / f"{user.name}.url", user.name, redis_url)) for user in USERS}
    except OSError as exc:
        raise SettingError("--passwords", "flag", f"{exc.filename or folder}: {exc.strerror}") from exc


def _kept(file: Path, user: str, redis_url: str) -> str:
    """Return the password in a user's address, which is made where there is none."""
    if not file.exists():
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as draft:
            draft.write(_address(redis_url, user, password) + "\n")
        return password
    found = urlsplit(file.read_text(encoding="utf-8").strip()).password
    if not found:
        raise SettingError("--passwords", "flag", f"{file} holds no address with a password; remove it, and a new one is made")
    return unquote(found)


def _address(redis_url: str, user: str, password: str) -> str:
    """Return where Redis is, to be reached as this user."""
    parts = urlsplit(redis_url)
    return parts._replace(netloc=f"{user}:{password}@{parts.netloc.rpartition('@')[2]}").geturl()


def _digest(password: str) -> str:
    # 256 random bits need no slow hash, and Redis knows no other.
    return hashlib.sha256(password.encode()).hexdigest()
