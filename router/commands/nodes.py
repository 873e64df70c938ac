"""`pushway nodes`."""

from __future__ import annotations

import anyio
import typer

from router.commands.options import AsJson, FoundConfig, people_settings
from router.commands.output import duration, print_columns, print_json
from router.commands.reach import redis_at_hand
from router.directory import Node, read_nodes
from router.settings import Settings

_UNKNOWN = "-"


def nodes(config: FoundConfig = None, as_json: AsJson = False) -> None:
    """Print the nodes: where they are, how many sessions they hold, whether they live.

    Example: pushway nodes --json
    """
    found = anyio.run(_read, people_settings(config))
    if as_json:
        print_json(found)
    elif found:
        print_columns(("NODE", "ADDRESS", "SESSIONS", "STATE", "AGE", "HEARTBEAT"), [_row(node) for node in found])
    else:
        typer.echo("no node has registered: is an edge running?", err=True)


async def _read(settings: Settings) -> list[Node]:
    async with redis_at_hand(settings) as redis:
        return await read_nodes(redis, settings)


def _row(node: Node) -> tuple[str, ...]:
    sessions = _UNKNOWN if node.sessions is None else str(node.sessions)
    age = _UNKNOWN if node.age_s is None else duration(node.age_s)
    return node.id, node.address or _UNKNOWN, sessions, node.state or _UNKNOWN, age, "alive" if node.alive else "dead"
