"""`pushway migrate`."""

from __future__ import annotations

import os
import re
from typing import Final

import anyio
import typer
from pymongo.errors import ConnectionFailure, PyMongoError

from router.commands.options import AsJson, FoundConfig, people_settings
from router.commands.output import print_json
from router.commands.reach import ADVICE, NotReached
from router.migrate import migrate as migrate_database
from router.settings import Settings

_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")


def migrate(config: FoundConfig = None, as_json: AsJson = False) -> None:
    """Make the indexes in MongoDB; those that stand already stay as they are.

    Example: PUSHWAY_MONGO_URL=mongodb://db.example.com pushway migrate
    """
    settings = people_settings(config)
    try:
        anyio.run(migrate_database, settings)
    except PyMongoError as exc:
        raise NotReached(_explain(exc, settings)) from exc
    if as_json:
        print_json({"database": settings.mongo_database, "ready": True})
    else:
        typer.echo(f"the database {settings.mongo_database} is ready for this version")


def _explain(exc: PyMongoError, settings: Settings) -> str:
    where = f"MongoDB at {_server_name(settings)}"
    if not isinstance(exc, ConnectionFailure):
        return f"{where} refused: {exc}"
    # The driver's text repeats the address, and goes on with its own settings and the state of every server it knows.
    found = _ERRNO.search(str(exc))
    cause = os.strerror(int(found[1])) if found else "no answer in time"
    return f"{where} cannot be reached ({cause}; set by mongo_url): {ADVICE}"


def _server_name(settings: Settings) -> str:
    """Return where MongoDB is, for people: without user, password and options."""
    return settings.mongo_url.partition("://")[2].partition("/")[0].rpartition("@")[2]
