"""`pushway token`."""

from __future__ import annotations

from typing import Annotated

import anyio
import typer

from router.auth.client import request_token
from router.commands.options import AsJson, FoundConfig, check_name, people_settings
from router.commands.output import print_json
from router.commands.reach import ADVICE, NotReached


def token(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    ttl_s: Annotated[
        int | None, typer.Option("--ttl", metavar="SECONDS", min=1, help="Its life in seconds; default: token_ttl_s.")
    ] = None,
    topics: Annotated[
        list[str] | None,
        typer.Option(
            "--topic",
            metavar="PATTERN",
            help="Topics it grants: a name or a pattern such as team.*; may be given several times.",
        ),
    ] = None,
    subscribe: Annotated[
        list[str] | None,
        typer.Option(
            "--subscribe", metavar="TOPIC", help="A topic that each session with the token hears; may be given several times."
        ),
    ] = None,
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Print a token for a user, from the auth service.

    Example: pushway token alice --ttl 600 --topic news --topic 'team.*'
    """
    check_name(user, "USER")
    for topic in (*(topics or ()), *(subscribe or ())):
        check_name(topic, "TOPIC")
    settings = people_settings(config)
    try:
        issued = anyio.run(lambda: request_token(settings, user, ttl_s=ttl_s, topics=topics or (), subscribe=subscribe or ()))
    except ConnectionError as exc:
        raise NotReached(f"{exc}: {ADVICE}") from exc
    if as_json:
        print_json(issued)
    else:
        typer.echo(issued.token)
