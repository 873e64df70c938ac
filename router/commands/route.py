"""`pushway route`."""

from __future__ import annotations

from typing import Annotated

import anyio
import typer

from router.commands.options import AsJson, FoundConfig, check_name, people_settings
from router.commands.output import duration, print_columns, print_json
from router.commands.reach import redis_at_hand
from router.directory import Route, read_routes
from router.settings import Settings


def route(
    user: Annotated[str, typer.Argument(help="The user's id.")], config: FoundConfig = None, as_json: AsJson = False
) -> None:
    """Print which nodes hold a user, and for how long yet.

    Example: pushway route alice
    """
    check_name(user, "USER")
    routes = anyio.run(_read, people_settings(config), user)
    if as_json:
        print_json(routes)
    elif routes:
        print_columns(("NODE", "ROUTE", "HEARTBEAT"), [_row(route) for route in routes])
    else:
        typer.echo(f"no node holds {user}: no connection is open", err=True)


async def _read(settings: Settings, user: str) -> list[Route]:
    async with redis_at_hand(settings) as redis:
        return await read_routes(redis, settings, user)


def _row(route: Route) -> tuple[str, str, str]:
    left = f"{duration(route.left_ms / 1000)} left" if route.left_ms > 0 else "lapsed"
    return route.node, left, "alive" if route.node_alive else "dead"
