"""`pushway keys`: who may call the API and auth, as the file of keys says (`api_keys_file`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from router.api_keys.changes import drop as without
from router.api_keys.changes import make as with_new
from router.api_keys.changes import rotate as with_other
from router.api_keys.file import change_keys, read_keys
from router.api_keys.key import ApiKey, KeysBroken, fingerprint, new_secret, read_time
from router.api_keys.scopes import SCOPES, Scope
from router.commands.options import AsJson, FoundConfig, people_settings
from router.commands.output import duration, print_columns, print_json
from router.commands.teaching import TaughtCommand, TaughtGroup
from router.commands.times import read_age_s
from router.errors import RuleBroken, SettingError

_OVERLAP: Final = "24h"

Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is, such as the back end's name; it stands in logs.")]
File = Annotated[Path | None, typer.Option("--file", metavar="FILE", help="The file of keys; default: api_keys_file.")]
Expires = Annotated[
    str | None,
    typer.Option("--expires", metavar="AGE|TIME", help="When it ends: 90d from now, or 2027-01-01T00:00:00Z; default: never."),
]


def keys() -> None:
    """Make, list, rotate and drop the API keys of back ends; it takes no restart.

    Example: pushway keys make billing --scope send
    """


app = typer.Typer(cls=TaughtGroup, callback=keys, no_args_is_help=True, add_completion=False)


@app.command(cls=TaughtCommand)
def make(
    name: Name,
    scopes: Annotated[
        list[str], typer.Option("--scope", metavar="|".join(SCOPES), help="What it is good for; may be given several times.")
    ],
    expires: Expires = None,
    file: File = None,
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Print a new key, this once: the file keeps its hash. The file is made where there is none.

    Example: pushway keys make shop --scope send --scope read --expires 90d
    """
    secret, now = new_secret(), datetime.now(UTC)
    wanted, ends = [_scope(scope) for scope in scopes], _end(expires, now)
    after = change_keys(_file(file, config), lambda before: with_new(before, name, secret, wanted, ends))
    _print_new(after[-1], secret, now, as_json)


@app.command("list", cls=TaughtCommand)
def list_(file: File = None, config: FoundConfig = None, as_json: AsJson = False) -> None:
    """Print the keys: whose they are, what they are good for, until when, and the begin of each hash.

    Example: pushway keys list
    """
    found, now = read_keys(_file(file, config)), datetime.now(UTC)
    if as_json:
        print_json([_told(key, now) for key in found])
    elif found:
        rows = [(key.name, " ".join(_scopes_of(key)), _until(key, now), fingerprint(key)) for key in found]
        print_columns(("NAME", "SCOPES", "ENDS", "HASH"), rows)
    else:
        typer.echo("there is no key", err=True)


@app.command(cls=TaughtCommand)
def rotate(
    name: Name,
    overlap: Annotated[
        str,
        typer.Option("--overlap", metavar="AGE", help="How long the one of before stays good: 90s, 10m, 24h; 0s ends it."),
    ] = _OVERLAP,
    expires: Expires = None,
    file: File = None,
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Print another key for a name, this once, with the scopes of the one of before, which ends after the overlap.

    Example: pushway keys rotate billing --overlap 24h
    """
    secret, now = new_secret(), datetime.now(UTC)
    wait, ends = timedelta(seconds=read_age_s(overlap, "--overlap")), _end(expires, now)
    after = change_keys(_file(file, config), lambda before: with_other(before, name, secret, now, wait, ends))
    _print_new(after[-1], secret, now, as_json)


@app.command(cls=TaughtCommand)
def drop(
    name: Name,
    begin: Annotated[
        str, typer.Option("--hash", metavar="BEGIN", help="Only the one whose hash begins so, as `keys list` shows it.")
    ] = "",
    file: File = None,
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Remove the keys of a name: within seconds they are good for nothing.

    Example: pushway keys drop billing
    """
    path = _file(file, config)
    gone: list[ApiKey] = []

    def change(before: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        after = without(before, name, begin)
        gone.extend(key for key in before if key not in after)
        return after

    change_keys(path, change)
    if as_json:
        print_json([_told(key, datetime.now(UTC)) for key in gone])
    else:
        typer.echo(f"{len(gone)} of {name} dropped", err=True)


def _file(file: Path | None, config: Path | None) -> Path:
    if file is not None:
        return file
    setting = people_settings(config).api_keys_file
    if not setting:
        raise SettingError("api_keys_file", "default", "it is not set: name the file of keys there, or here with --file")
    return Path(setting)


def _scope(text: str) -> Scope:
    for scope in SCOPES:
        if scope == text:
            return scope
    raise RuleBroken("--scope", f"{text!r} is none of {', '.join(SCOPES)}")


def _end(expires: str | None, now: datetime) -> datetime | None:
    if expires is None:
        return None
    try:
        end = read_time(expires)
    except KeysBroken:
        end = now + timedelta(seconds=read_age_s(expires, "--expires"))
    if end <= now:
        raise RuleBroken("--expires", f"{expires} is over")
    return end.replace(microsecond=0)


def _print_new(key: ApiKey, secret: str, now: datetime, as_json: bool) -> None:
    if as_json:
        print_json({"key": secret} | _told(key, now))
        return
    typer.echo(secret)
    typer.echo(f"pushway: this is shown once. {key.name} may {', '.join(_scopes_of(key))}; ends: {_until(key, now)}", err=True)


def _told(key: ApiKey, now: datetime) -> dict[str, Any]:
    return {
        "name": key.name,
        "scopes": _scopes_of(key),
        "expires_at": None if key.expires_at is None else f"{key.expires_at:%Y-%m-%dT%H:%M:%SZ}",
        "expired": key.is_expired(now),
        "hash": fingerprint(key),
    }


def _scopes_of(key: ApiKey) -> Sequence[Scope]:
    return [scope for scope in SCOPES if scope in key.scopes]


def _until(key: ApiKey, now: datetime) -> str:
    if key.expires_at is None:
        return "never"
    return "ended" if key.is_expired(now) else f"in {duration((key.expires_at - now).total_seconds())}"
