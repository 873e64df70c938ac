"""`pushway forget`."""

from __future__ import annotations

from typing import Annotated

import anyio
import typer

from router.commands.options import AsJson, FoundConfig, check_name, confirm, people_settings
from router.commands.output import print_columns, print_json
from router.commands.reach import redis_at_hand
from router.commands.reach_mongo import mongo_at_hand
from router.cursors import Cursors
from router.errors import PushwayError
from router.forget import WAIT_S, Forgetting, Forgotten
from router.inbox import Inbox
from router.later import Later
from router.settings import Settings
from router.subscriptions import Subscriptions


class NotForgotten(PushwayError):
    """Something of a person is left; the text says what is in the way."""


def forget(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether that is meant.")] = False,
    wait: Annotated[
        float, typer.Option("--wait", min=0, metavar="SECONDS", help="How long to wait for what others have in hand.")
    ] = WAIT_S,
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Erase a person: sessions, messages, cursors, and what stands of them in streams.

    It speaks to Redis and MongoDB, whatever else is running. Stop sending the person messages and giving out tokens first. What
    is gone is gone; running it again is harmless, and finishes what was cut off.

    Example: pushway forget alice --yes
    """
    check_name(user, "USER")
    settings = people_settings(config)
    if not yes:
        confirm(f"Erase {user} from Redis and MongoDB (prefix {settings.prefix})?", f"erase {user}")
    forgotten = anyio.run(_forget, settings, user, wait)
    if as_json:
        print_json(forgotten)
    else:
        print_columns(("REMOVED", "COUNT"), _rows(forgotten))
    if not forgotten.complete:
        raise NotForgotten(f"not all of {user} is gone: {'; '.join(forgotten.left)}. Run it again.")


async def _forget(settings: Settings, user: str, wait_s: float) -> Forgotten:
    async with redis_at_hand(settings) as redis, mongo_at_hand(settings) as mongo:
        inbox, cursors, subscriptions = Inbox(mongo, settings), Cursors(mongo, settings), Subscriptions(mongo, settings)
        return await Forgetting(redis, inbox, cursors, subscriptions, Later(mongo, settings), settings, user).run(wait_s)


def _rows(forgotten: Forgotten) -> list[tuple[str, str]]:
    counts = {
        "nodes told to close sessions": len(forgotten.nodes),
        "messages in MongoDB": forgotten.messages,
        "cursors in MongoDB": forgotten.cursors,
        "standing subscriptions": forgotten.topics,
        "routes to nodes that are gone": forgotten.routes,
        "counters and copies in Redis": forgotten.keys,
        **{f"entries of {name}": count for name, count in forgotten.entries.items()},
        **{f"the name, from entries of {name} for others too": count for name, count in forgotten.replaced.items() if count},
    }
    return [(what, str(count)) for what, count in counts.items()]
