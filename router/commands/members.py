"""`pushway members`."""

from __future__ import annotations

from typing import Annotated

import anyio
import typer

from router.commands.options import AsJson, FoundConfig, check_name, people_settings
from router.commands.output import print_columns, print_json
from router.commands.reach import redis_at_hand
from router.doctor.findings import counted
from router.members import USERS_MAX, Members, members_of
from router.settings import Settings


def members(
    topic: Annotated[str, typer.Argument(help="The topic's name.")],
    limit: Annotated[int, typer.Option("--limit", min=1, max=USERS_MAX, help="Most users to name; all are counted.")] = 1_000,
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Print who has subscribed to a topic, as the edges say at this moment.

    A line on standard error counts them, and says whether an edge has not answered in time.

    Example: pushway members room-7
    """
    check_name(topic, "TOPIC")
    found = anyio.run(_read, people_settings(config), topic, limit)
    if as_json:
        users = [{"user": user, "sessions": sessions} for user, sessions in found.users]
        print_json({"topic": topic, "users": users} | _counts(found))
        return
    if found.users:
        print_columns(("USER", "SESSIONS"), [(user, str(sessions)) for user, sessions in found.users])
    typer.echo(_words(topic, found), err=True)


async def _read(settings: Settings, topic: str, limit: int) -> Members:
    async with redis_at_hand(settings) as redis:
        return await members_of(redis, settings, topic, limit)


def _counts(found: Members) -> dict[str, object]:
    return {
        "users_total": found.users_total,
        "sessions": found.sessions,
        "edges": found.asked,
        "complete": found.complete,
    }


def _words(topic: str, found: Members) -> str:
    if not found.asked:
        return f"nobody has subscribed to {topic}: no edge hears it"
    users, sessions = counted(found.users_total, "user", "users"), counted(found.sessions, "session", "sessions")
    edges = counted(found.asked, "edge has", "edges have")
    words = f"{users}, {sessions}; {found.answered} of {edges} answered"
    return words if found.complete else f"{words}: something is missing"
