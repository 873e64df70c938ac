"""`pushway migrate`."""

from __future__ import annotations

import anyio
import typer
from pymongo.errors import PyMongoError

from router.commands.options import AsJson, FoundConfig, people_settings
from router.commands.output import print_json
from router.commands.reach import NotReached
from router.commands.reach_mongo import explain
from router.migrate import migrate as migrate_database


def migrate(config: FoundConfig = None, as_json: AsJson = False) -> None:
    """Make the indexes in MongoDB; those that stand already stay as they are.

    Example: PUSHWAY_MONGO_URL=mongodb://db.example.com pushway migrate
    """
    settings = people_settings(config)
    try:
        anyio.run(migrate_database, settings)
    except PyMongoError as exc:
        raise NotReached(explain(exc, settings)) from exc
    if as_json:
        print_json({"database": settings.mongo_database, "ready": True})
    else:
        typer.echo(f"the database {settings.mongo_database} is ready for this version")
