"""`pushway reshard`."""

from __future__ import annotations

from typing import Annotated

import anyio
import typer

from router.commands.options import AsJson, FoundConfig, confirm, people_settings
from router.commands.output import print_json
from router.commands.reach import redis_as_it_is
from router.commands.reach_mongo import mongo_at_hand
from router.reshard.run import reshard as run_reshard
from router.settings import Settings


def reshard(
    to: Annotated[int, typer.Option("--to", min=1, max=1024, metavar="SHARDS", help="How many shards there are to be.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether that is meant.")] = False,
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Take a drained system to another number of shards; cut off anywhere, the same command goes on.

    It refuses, and says what is in the way, while anything runs or waits. Begun, no service starts until it is through.

    Example: pushway reshard --to 8 --yes
    """
    settings = people_settings(config)
    if not yes:
        confirm(f"Take prefix {settings.prefix} to {to} shards?", f"take it to {to} shards")
    done: dict[str, int] = {}
    changed = anyio.run(_run, settings, to, done)
    if as_json:
        print_json({"shards": to, "changed": changed, "done": done})
        return
    for what, count in done.items():
        typer.echo(f"{what}: {count:,}" if count else what)
    then = f"set shards = {to} in the settings of every service and command, then start them"
    typer.echo(f"{to} shards: {then}" if changed else f"there are {to} shards already: {then}")


async def _run(settings: Settings, shards: int, done: dict[str, int]) -> bool:
    async with redis_as_it_is(settings) as redis, mongo_at_hand(settings) as mongo:
        return await run_reshard(redis, mongo, settings, shards, done.__setitem__)
