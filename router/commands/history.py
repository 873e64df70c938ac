"""`pushway history`."""

from __future__ import annotations

from typing import Annotated, Any, Final

import anyio
import msgspec
import typer

from router.commands.options import AsJson, FoundConfig, people_settings
from router.commands.output import print_columns, print_json
from router.commands.reach_mongo import mongo_at_hand
from router.commands.times import local_time
from router.inbox import Inbox
from router.settings import Settings
from router.stored import Page
from router.targets import check_target

_MAX_BYTES: Final = 4_194_304
"""A page ends behind the message that takes it past this."""

_SEQ_MAX: Final = 2**53 - 1


def history(
    target: Annotated[str, typer.Argument(help="user:<id>, topic:<name> or all.")],
    after: Annotated[int, typer.Option("--after", metavar="SEQ", min=0, max=_SEQ_MAX, help="The seq to begin behind.")] = 0,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="Most messages to print.")] = 100,
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Print what is stored for a user, a topic or everybody, the oldest first.

    What is over is left out. Where more follows, a line on standard error says how to go on; --json prints one object with
    `target`, `messages` and `next`, which is null at the end.

    Example: pushway history topic:news --limit 20
    """
    check_target(target, "TARGET")
    page = anyio.run(_read, people_settings(config), target, after, limit)
    following = None if page.whole else page.reached
    if as_json:
        frames = [msgspec.Raw(frame) for _, frame in page.messages]
        print_json({"target": target, "messages": frames, "next": following})
        return
    if page.messages:
        print_columns(("SEQ", "SENT", "ID", "MESSAGE"), [_row(seq, frame) for seq, frame in page.messages])
    elif following is None:
        typer.echo(f"nothing is stored for {target} behind {after}", err=True)
    if following is not None:
        typer.echo(f"more may follow: --after {following}", err=True)


async def _read(settings: Settings, target: str, after: int, limit: int) -> Page:
    async with mongo_at_hand(settings) as mongo:
        return await Inbox(mongo, settings).page(target, after, _SEQ_MAX, limit, _MAX_BYTES)


def _row(seq: int, frame: bytes) -> tuple[str, str, str, str]:
    told: dict[str, Any] = msgspec.json.decode(frame)
    content = told["text"] if "text" in told else msgspec.json.encode(told.get("body")).decode()
    return str(seq), local_time(told["ts"]), told["id"], content
