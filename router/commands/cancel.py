"""`pushway cancel`."""

from __future__ import annotations

from typing import Annotated

import anyio
import typer

from router.commands.options import AsJson, FoundConfig, people_settings
from router.commands.output import print_json
from router.commands.reach_mongo import mongo_at_hand
from router.errors import PushwayError
from router.later import Cancelled, Later
from router.settings import Settings
from router.targets import check_id


class NotCancelled(PushwayError):
    """Nothing was called back; the text says why."""


def cancel(
    message_id: Annotated[str, typer.Argument(metavar="ID", help="The message's id.")],
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Call back a message that waits for its time.

    Fails when none of that id waits: there was none, it is sent, or it was called back before.

    Example: pushway cancel reminder-7
    """
    check_id(message_id, "ID")
    done = anyio.run(_cancel, people_settings(config), message_id)
    if not done.targets:
        raise NotCancelled(f"{message_id} is just being sent" if done.sending else f"no message {message_id} waits")
    if as_json:
        print_json({"id": message_id, "cancelled": done.targets, "sending": done.sending})
    else:
        typer.echo(f"{message_id} is not sent to {_count(done.targets)}{_besides(done)}")


async def _cancel(settings: Settings, message_id: str) -> Cancelled:
    async with mongo_at_hand(settings) as mongo:
        return await Later(mongo, settings).cancel(message_id)


def _count(targets: int) -> str:
    return "one target" if targets == 1 else f"{targets:,} targets"


def _besides(done: Cancelled) -> str:
    return f"; it is just being sent to {_count(done.sending)}" if done.sending else ""
