"""`pushway disconnect`."""

from __future__ import annotations

from typing import Annotated

import anyio
import typer

from router.commands.options import AsJson, FoundConfig, check_name, people_settings
from router.commands.output import print_json
from router.commands.reach import redis_at_hand
from router.kick import CODE_MAX, CODE_MIN, KICKED, REASON, Kick, check_kick, kick
from router.settings import Settings


def disconnect(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    code: Annotated[
        int, typer.Option("--code", min=CODE_MIN, max=CODE_MAX, help="The close code; from 4500 on clients do not come back.")
    ] = KICKED,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="What the close frame says.")] = REASON,
    device: Annotated[str | None, typer.Option("--device", help="Only sessions of this device.")] = None,
    session: Annotated[str | None, typer.Option("--session", help="Only this session, by the id in its welcome.")] = None,
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """End a user's sessions, or those of one device, with a close code.

    Prints the nodes that were told: all that hold the user. A token that is still good lets the user come back.

    Example: pushway disconnect alice --device phone --code 4710 --reason 'signed out elsewhere'
    """
    check_name(user, "USER")
    wanted = check_kick(Kick(user, code, reason, device, session))
    nodes = anyio.run(_kick, people_settings(config), wanted)
    if as_json:
        print_json({"user": user, "nodes": nodes})
    elif nodes:
        typer.echo("\n".join(nodes))
    else:
        typer.echo(f"no node holds {user}: no connection is open", err=True)


async def _kick(settings: Settings, wanted: Kick) -> list[str]:
    async with redis_at_hand(settings) as redis:
        return await kick(redis, settings, wanted)
