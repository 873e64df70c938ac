"""The options that commands share, and how they become settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from router.errors import RuleBroken, SettingError
from router.settings import CONFIG_VARIABLE, ENV_PREFIX, Settings, load_settings
from router.targets import check_id, is_target

FOLDER_CONFIG: Final = Path(".pushway/pushway.toml")
"""What `pushway up` writes. Only commands for people look for it: a service never depends on where it is started."""

_NOTHING_SET: Final = (
    f"pushway: the defaults are used: {CONFIG_VARIABLE} is not set, and there is no {FOLDER_CONFIG} in this folder. For an "
    f"`up` elsewhere add --config DIR/{FOLDER_CONFIG}"
)

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="TOML file of settings; default: the one that PUSHWAY_CONFIG names."),
]
FoundConfig = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help=f"TOML file of settings; default: the one that PUSHWAY_CONFIG names, or {FOLDER_CONFIG}.",
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Set one of docs/settings.md; may be given several times."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def check_name(ident: str, argument: str) -> None:
    """Check the id of a user or topic that somebody typed; a note on standard error where it is written as a target.

    `user:alice` may be an id, so it is taken as one; what is asked after most likely is alice.

    Raises:
        RuleBroken: naming the argument, when it breaks the rule for ids.
    """
    check_id(ident, argument)
    if ":" in ident and is_target(ident):
        meant = ident.partition(":")[2]
        typer.echo(f"pushway: {argument}: {ident!r} is taken as an id, which is another one than {meant!r}", err=True)


def confirm(question: str, doing: str) -> None:
    """Ask whether what cannot be undone is meant; `--yes` spares the question.

    Raises:
        RuleBroken: when nobody can be asked; it names what was to be done, as in "drop all dead letters".
        typer.Abort: when it is not meant.
    """
    try:
        meant = typer.confirm(question, err=True)
    except typer.Abort:
        if sys.stdin.isatty():
            raise
        typer.echo(err=True)
        raise RuleBroken("--yes", f"is needed to {doing} where nobody can be asked") from None
    if not meant:
        raise typer.Abort


def service_settings(config: Path | None, assignments: Sequence[str] | None, **flags: object) -> Settings:
    """Return the settings of a service. Flags that are None were not given; they win over `--set`.

    Raises:
        SettingError: naming what is wrong.
    """
    return load_settings(
        config=config,
        environ=os.environ,
        flags={**assigned(assignments), **{name: value for name, value in flags.items() if value is not None}},
    )


def people_settings(config: Path | None) -> Settings:
    """Return the settings of a command for people, which finds the file in the working folder too.

    Where nothing is set in any way, a note on standard error says what was looked for: a command that asks other servers than
    the person has in mind would otherwise answer as if all was well.

    Raises:
        SettingError: naming what is wrong.
    """
    file = settings_file(config)
    if file is None and not any(name.startswith(ENV_PREFIX) for name in os.environ):
        typer.echo(_NOTHING_SET, err=True)
    return load_settings(config=file, environ=os.environ)


def settings_file(config: Path | None) -> Path | None:
    """Return the file that a command for people takes its settings from; None where there is none."""
    if config is not None:
        return config
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    return FOLDER_CONFIG if FOLDER_CONFIG.is_file() else None


def assigned(assignments: Sequence[str] | None) -> dict[str, object]:
    """Return what `--set` gives, by name.

    Raises:
        SettingError: for a text that is not name=value.
    """
    return dict(_assignment(text) for text in assignments or ())


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingError(text, "--set", "name=value is expected")
    return name, value
