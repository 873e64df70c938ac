"""`pushway topics`, `pushway subscribe` and `pushway unsubscribe`: what stands for a user."""

from __future__ import annotations

from typing import Annotated

import anyio
import typer

from router.commands.options import AsJson, FoundConfig, check_name, people_settings
from router.commands.output import print_json
from router.commands.reach import redis_at_hand
from router.commands.reach_mongo import mongo_at_hand
from router.settings import Settings
from router.subscriptions import Subscriptions
from router.subscriptions import subscribe as subscribe_user
from router.subscriptions import unsubscribe as unsubscribe_user

_User = Annotated[str, typer.Argument(help="The user's id.")]
_Topic = Annotated[str, typer.Argument(help="The topic's name.")]


def topics(user: _User, config: FoundConfig = None, as_json: AsJson = False) -> None:
    """Print the topics that a user was subscribed to by back ends.

    Example: pushway topics alice
    """
    check_name(user, "USER")
    found = anyio.run(_read, people_settings(config), user)
    if as_json:
        print_json({"user": user, "topics": found})
    elif found:
        typer.echo("\n".join(found))
    else:
        typer.echo(f"back ends have subscribed {user} to no topic", err=True)


def subscribe(user: _User, topic: _Topic, config: FoundConfig = None, as_json: AsJson = False) -> None:
    """Have all sessions of a user, now and to come, hear a topic.

    It holds until `pushway unsubscribe`, whatever the user's tokens grant. Running it again is harmless.

    Example: pushway subscribe alice news
    """
    _check(user, topic)
    new = anyio.run(_subscribe, people_settings(config), user, topic)
    if as_json:
        print_json({"user": user, "topic": topic, "new": new})
    else:
        typer.echo(f"{user} hears {topic}" if new else f"{user} hears {topic}, as before")


def unsubscribe(user: _User, topic: _Topic, config: FoundConfig = None, as_json: AsJson = False) -> None:
    """End a topic for a user in all sessions, also where a client had asked for it.

    A client whose token grants the topic may ask for it again. Running it again is harmless.

    Example: pushway unsubscribe alice news
    """
    _check(user, topic)
    stood = anyio.run(_unsubscribe, people_settings(config), user, topic)
    if as_json:
        print_json({"user": user, "topic": topic, "stood": stood})
    else:
        typer.echo(f"{user} hears {topic} no more" if stood else f"no back end had subscribed {user}; the sessions were told")


def _check(user: str, topic: str) -> None:
    check_name(user, "USER")
    check_name(topic, "TOPIC")


async def _read(settings: Settings, user: str) -> list[str]:
    async with mongo_at_hand(settings) as mongo:
        return await Subscriptions(mongo, settings).topics_of(user)


async def _subscribe(settings: Settings, user: str, topic: str) -> bool:
    async with redis_at_hand(settings) as redis, mongo_at_hand(settings) as mongo:
        return await subscribe_user(redis, Subscriptions(mongo, settings), settings, user, topic)


async def _unsubscribe(settings: Settings, user: str, topic: str) -> bool:
    async with redis_at_hand(settings) as redis, mongo_at_hand(settings) as mongo:
        return await unsubscribe_user(redis, Subscriptions(mongo, settings), settings, user, topic)
