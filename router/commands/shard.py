"""`pushway shard`."""

from __future__ import annotations

from typing import Annotated

import typer

from router.commands.options import AsJson, FoundConfig, check_name, people_settings
from router.commands.output import print_json
from router.shards import keyslot, shard_of_id


def shard(
    ident: Annotated[str, typer.Argument(metavar="ID", help="Id of a user or topic, or `all`.")],
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Print which shard an id belongs to.

    Example: redis-cli -p 6390 HGETALL "push:{$(pushway shard alice)}:seq:user:alice"
    """
    shards = people_settings(config).shards
    check_name(ident, "ID")
    number = shard_of_id(ident, shards)
    if as_json:
        print_json({"id": ident, "shard": number, "shards": shards, "slot": keyslot(ident)})
    else:
        typer.echo(number)
