"""`pushway listen`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Final

import anyio
import msgspec
import typer

from edge.client import (
    CaughtUp,
    Client,
    Joined,
    Left,
    Lost,
    Members,
    Message,
    Noticed,
    NoToken,
    NotWelcome,
    Parted,
    Pauses,
    Refused,
    Status,
    Subscribed,
    Unsubscribed,
    Welcomed,
)
from router.auth.client import request_token
from router.commands.options import FoundConfig, check_name, people_settings
from router.commands.output import printable
from router.errors import PushwayError, RuleBroken
from router.settings import Settings
from router.targets import USER_PREFIX, check_id
from router.tls.trust import http_trust

_PAUSES: Final = Pauses(max_s=3.0)
"""A person watches, and one of them is no crowd to spread."""


class Ended(PushwayError):
    """The edge said not to come back."""


def listen(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    edge: Annotated[
        str | None, typer.Option(metavar="N|URL", help="The Nth of edge_urls, or a URL; default: all, in turn.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the device: what is printed is acknowledged, and the next listener of that name goes on behind it."
            " A second session of it ends the first.",
        ),
    ] = None,
    since: Annotated[
        int | None,
        typer.Option(
            metavar="SEQ",
            min=0,
            help="Begin behind this seq of the user's; 0 for everything retained. Default: where the device was, or now.",
        ),
    ] = None,
    topics: Annotated[
        list[str] | None,
        typer.Option("--topic", metavar="NAME", help="Hear this topic, too; may be given several times. The token grants it."),
    ] = None,
    presence: Annotated[
        bool, typer.Option("--presence", help="Tell who else has subscribed to these topics, and who comes and goes.")
    ] = False,
    config: FoundConfig = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each message as the JSON that came, one a line.")] = False,
) -> None:
    """Print a user's messages as they come, across reconnects, until Ctrl-C.

    Those to everybody come, too, and with --topic those to a topic. Messages go to standard output, each with its
    target; what happens to the connection goes to standard error.

    Example: pushway listen alice --device phone --topic news
    """
    check_name(user, "USER")
    for topic in topics or ():
        check_name(topic, "--topic")
    if device is not None:
        check_id(device, "--device")
    settings = people_settings(config)
    urls = _urls(settings, edge)
    with suppress(KeyboardInterrupt):  # the way to end it
        anyio.run(_listen, settings, urls, user, device, since, tuple(topics or ()), presence, as_json)


def _urls(settings: Settings, edge: str | None) -> tuple[str, ...]:
    if edge is None:
        return settings.edge_urls
    if edge.startswith(("ws://", "wss://")):
        return (edge,)
    if not edge.isdecimal() or not 1 <= int(edge) <= len(settings.edge_urls):
        rule = f"a number from 1 to {len(settings.edge_urls)} (edge_urls) or a ws:// or wss:// address is expected"
        raise RuleBroken("--edge", rule)
    return (settings.edge_urls[int(edge) - 1],)


async def _listen(
    settings: Settings,
    urls: tuple[str, ...],
    user: str,
    device: str | None,
    since: int | None,
    topics: tuple[str, ...],
    presence: bool,
    as_json: bool,
) -> None:
    async def token() -> str:
        return (await request_token(settings, user, topics=topics)).token

    try:
        teller = Teller()
        async with Client(
            urls,
            token,
            topics=topics,
            presence=topics if presence else (),
            device=device,
            since=since,
            on_status=teller.tell,
            pauses=_PAUSES,
            tls=http_trust(settings),
        ) as client:
            async for message in client:
                teller.count(message.to)
                typer.echo(message.frame if as_json else _line(message))
    except NotWelcome as exc:
        raise Ended(str(exc)) from exc


def _line(message: Message) -> str:
    at = datetime.fromtimestamp(message.ts_ms / 1000).astimezone().strftime("%H:%M:%S")
    content = message.text if message.text is not None else msgspec.json.encode(message.body).decode()
    return f"{at}  {printable(message.to)}  {printable(content)}"


class Teller:
    """Tells on standard error what happens to the connection, and how much was missed where something was."""

    def __init__(self) -> None:
        self._since_welcome: Counter[str] = Counter()

    def count(self, to: str) -> None:
        """Count a message that came to this target."""
        self._since_welcome[to] += 1

    def tell(self, status: Status) -> None:
        """Say a status, unless it is that of somebody who has missed nothing."""
        if isinstance(status, Welcomed):
            self._since_welcome.clear()
        if words := _words(status, self._since_welcome):
            typer.secho(printable(words), dim=True, err=True)


def _words(status: Status, missed: Mapping[str, int]) -> str:
    match status:
        case Welcomed(url=url, user=user, node=node):
            return f"listening as {user} on {node} ({url})"
        case Parted(url=url, why=why, retry_in_s=pause_s):
            return f"not connected to {url}: {why}; again in {pause_s:.1f} s"
        case NoToken(why=why, retry_in_s=pause_s):
            return f"no token: {why}; again in {pause_s:.1f} s"
        case Noticed(frame=frame):
            return _frame_words(frame)
        case Members() | Joined() | Left():
            return _presence_words(status)
        case _:
            return _target_words(status, missed)


def _target_words(status: CaughtUp | Lost | Subscribed | Unsubscribed | Refused, missed: Mapping[str, int]) -> str:
    match status:
        case CaughtUp(to=to):
            return _caught_up_words(to, missed.get(to, 0))
        case Lost(to=to, since=since, until=until):
            return (
                f"what is older than the cluster retains cannot be had any more: something{_of(to)} between {since} and {until}"
            )
        case Subscribed(topic=topic):
            return f"listening to topic:{topic}"
        case Unsubscribed(topic=topic):
            return f"not listening to topic:{topic} any more"
        case Refused(code=code, why=why):
            return f"the edge refused something: {why} ({code})"


def _presence_words(status: Members | Joined | Left) -> str:
    match status:
        case Members(topic=topic, users=users):
            return f"topic:{topic} is heard by {', '.join(users) or 'nobody'}"
        case Joined(topic=topic, user=user):
            return f"{user} has come to topic:{topic}"
        case Left(topic=topic, user=user):
            return f"{user} has left topic:{topic}"


def _caught_up_words(to: str, missed: int) -> str:
    return f"caught up: {missed:,} missed {'message' if missed == 1 else 'messages'}{_of(to)}" if missed else ""


def _of(to: str) -> str:
    """Return which target it is, unless it goes without saying."""
    return "" if to.startswith(USER_PREFIX) else f" of {to}"


def _frame_words(frame: Mapping[str, Any]) -> str:
    match frame:
        case {"type": "bye", "reason": reason}:
            return f"the edge is about to close the connection: {reason}"
        case {"type": "expiring", "in_s": left_s}:
            return f"the token ends in {left_s} s: sending a newer one"
        case {"type": "extended", "in_s": left_s}:
            return f"listening on with the newer token, for {left_s} s"
        case _:
            return f"the edge sent a frame of its own: {msgspec.json.encode(frame).decode()}"
