"""`pushway migrate`."""

from __future__ import annotations

import anyio
import typer
from pymongo.errors import PyMongoError

from router import inbox
from router.commands.options import AsJson, FoundConfig, people_settings
from router.commands.output import print_json
from router.commands.reach import NotReached


def migrate(config: FoundConfig = None, as_json: AsJson = False) -> None:
    """Make the indexes in MongoDB; those that stand already stay as they are.

    Example: PUSHWAY_MONGO_URL=mongodb://db.example.com pushway migrate
    """
    settings = people_settings(config)
    try:
        anyio.run(inbox.migrate, settings)
    except PyMongoError as exc:
        # The driver's text goes on with the state of every server it knows.
        reason = str(exc).partition(", Timeout:")[0]
        raise NotReached(f"MongoDB refused or cannot be reached ({reason}): another one is set by mongo_url.") from exc
    if as_json:
        print_json({"database": settings.mongo_database, "ready": True})
    else:
        typer.echo(f"the database {settings.mongo_database} is ready for this version")
