"""`pushway presence`."""

from __future__ import annotations

from typing import Annotated

import anyio
import typer

from router.commands.options import AsJson, FoundConfig, check_name, people_settings
from router.commands.output import print_columns, print_json
from router.commands.reach import redis_at_hand
from router.commands.times import local_time
from router.errors import RuleBroken
from router.presence import USERS_MAX, Presence, presence_of
from router.settings import Settings


def presence(
    users: Annotated[list[str], typer.Argument(metavar="USER...", help="Ids of users.")],
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Print whether users are online, since when, on which nodes and devices.

    Example: pushway presence alice bob
    """
    for user in users:
        check_name(user, "USER")
    if len(users) > USERS_MAX:
        raise RuleBroken("USER", f"more than {USERS_MAX} at once")
    found = anyio.run(_read, people_settings(config), users)
    if as_json:
        print_json(found)
    else:
        print_columns(("USER", "ONLINE", "SINCE", "NODES AND DEVICES"), [_row(one) for one in found])


async def _read(settings: Settings, users: list[str]) -> list[Presence]:
    async with redis_at_hand(settings) as redis:
        return await presence_of(redis, settings, users)


def _row(found: Presence) -> tuple[str, str, str, str]:
    since = local_time(found.since_ms) if found.online and found.since_ms is not None else "-"
    where = " ".join(f"{one.node}({','.join(one.devices)})" if one.devices else one.node for one in found.nodes)
    return found.user, "yes" if found.online else "no", since, where or "-"
