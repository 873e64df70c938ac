"""`pushway trace`."""

from __future__ import annotations

from typing import Annotated

import anyio
import typer

from router.commands.options import AsJson, FoundConfig, people_settings
from router.commands.output import print_json
from router.commands.reach import redis_at_hand
from router.commands.waterfall import draw, waterfall_console
from router.errors import PushwayError
from router.settings import Settings
from router.streams import looks_like_entry
from router.targets import check_id
from router.trace import TraceEvent, describe, read_events


class NoEvents(PushwayError):
    """There is no trace of a message; the text says why that may be."""


def trace(
    message_id: Annotated[str, typer.Argument(metavar="ID", help="The message's id; `send --trace` prints it.")],
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Draw what became of a message sent with --trace, stage by stage.

    Example: pushway trace order-4711
    """
    check_id(message_id, "ID")
    settings = people_settings(config)
    events = anyio.run(_read, settings, message_id)
    if as_json:
        print_json({"id": message_id, "events": [describe(event) for event in events]})
    if not events:
        raise NoEvents(_why_none(message_id, settings))
    if not as_json:
        waterfall_console().print(draw(message_id, events))


def _why_none(message_id: str, settings: Settings) -> str:
    if looks_like_entry(message_id):
        return (
            f"there is no trace event of {message_id}, which looks like what XADD returned: that is the id of the entry, and "
            "not the message's. Append with a field `id` of your own and with `trace 1`, and ask for that id"
        )
    return (
        f"there is no trace event of {message_id}: it was sent without a trace (the field trace 1 asks for one, as does "
        f"`pushway send --trace`), its events are not among the newest {settings.trace_max:,} of a shard any more (trace_max), "
        "or its id is another. Of what is stored, traced or not, GET /v1/messages/{id} of the API tells"
    )


async def _read(settings: Settings, message_id: str) -> list[TraceEvent]:
    async with redis_at_hand(settings) as redis:
        return await read_events(redis, settings, message_id)
