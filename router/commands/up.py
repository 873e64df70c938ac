"""`pushway up`: all of it on this machine."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import anyio
import msgspec
import typer
from rich.console import Console

from router.commands.options import Assignments, assigned
from router.errors import SettingError
from router.settings import CONFIG_VARIABLE, Settings, load_settings
from router.up.plan import CONFIG_NAME, DATA, EDGES, EDGES_MAX, MONGO_PORT, PORT_BASE, PORT_BASE_MAX, REDIS_PORT, Request
from router.up.report import Report, print_report
from router.up.run import run

_PORT_MAX = 65_535


def up(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder for all that is kept.")] = DATA,
    port_base: Annotated[
        int,
        typer.Option(
            metavar="PORT", min=1, max=PORT_BASE_MAX, help="API; auth is the next one, edges follow, ops ports from +10."
        ),
    ] = PORT_BASE,
    redis_port: Annotated[
        int, typer.Option(metavar="PORT", min=1, max=_PORT_MAX, help="Port of the embedded Valkey.")
    ] = REDIS_PORT,
    mongo_port: Annotated[
        int, typer.Option(metavar="PORT", min=1, max=_PORT_MAX, help="Port of the embedded store.")
    ] = MONGO_PORT,
    edges: Annotated[int, typer.Option(metavar="N", min=1, max=EDGES_MAX, help="How many edges.")] = EDGES,
    shards: Annotated[
        int | None, typer.Option(metavar="N", help="How many shards; fixed by the first start, kept by later ones.")
    ] = None,
    redis: Annotated[str | None, typer.Option(metavar="URL", help="Use this Redis or Valkey, and embed none.")] = None,
    mongo: Annotated[str | None, typer.Option(metavar="URL", help="Use this MongoDB, and embed no store.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Take further settings from a TOML file.")] = None,
    settings: Assignments = None,
    as_json: Annotated[bool, typer.Option("--json", help="When ready, print one JSON object and nothing else.")] = False,
) -> None:
    """Run all of Pushway on this machine, with an embedded Valkey and store, until Ctrl-C.

    Example: pushway up --port-base 9000 --redis-port 9390 --mongo-port 9391 --data /tmp/second
    """
    if config and config.absolute() == (data / CONFIG_NAME).absolute():
        raise SettingError("config", str(config), "`up` writes this file; give it another one to read")
    chosen = _settings(config, settings, shards=shards, redis_url=redis, mongo_url=mongo)
    request = Request(
        data=data,
        port_base=port_base,
        redis_port=redis_port,
        mongo_port=mongo_port,
        edges=edges,
        redis_url=_chosen(chosen, "redis_url"),
        mongo_url=_chosen(chosen, "mongo_url"),
    )
    # Without uvloop: here a loop has hardly anything to do, and asyncio's own starts faster.
    anyio.run(run, request, chosen, _say, _print_json if as_json else _print)


def _settings(config: Path | None, assignments: list[str] | None, **flags: object) -> Settings:
    """Return the settings that were asked for.

    `PUSHWAY_CONFIG` is left out: it is how other commands are told of the file that an `up` has written.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    environ = {name: value for name, value in os.environ.items() if name != CONFIG_VARIABLE}
    return load_settings(config=config, environ=environ, flags=assigned(assignments) | given)


def _chosen(settings: Settings, name: str) -> str | None:
    """Return a setting that was given, as opposed to one that has its default."""
    return getattr(settings, name) if name in settings.model_fields_set else None


def _say(text: str) -> None:
    with suppress(OSError):  # the terminal may be gone, which is no reason not to end in good order
        sys.stderr.write(f"{text}\n")


def _print(report: Report) -> None:
    print_report(report, Console())


def _print_json(report: Report) -> None:
    sys.stdout.write(msgspec.json.encode(report, enc_hook=str).decode() + "\n")
    sys.stdout.flush()
