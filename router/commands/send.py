"""`pushway send`."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Annotated, Final

import anyio
import typer
from rich.live import Live

from router.collect.entries import Entry, Message, read_message
from router.commands.follow import Progress, ends, follow
from router.commands.options import AsJson, FoundConfig, people_settings
from router.commands.output import print_json
from router.commands.reach import redis_at_hand
from router.commands.times import read_time
from router.commands.waterfall import draw, waterfall_console
from router.errors import PushwayError, RuleBroken
from router.keys import Keys
from router.settings import Settings
from router.shards import shard_of_target
from router.trace import by_time, describe

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class NotDelivered(PushwayError):
    """A message that was followed has not reached everybody; the text says whom not, and why."""


def send(
    target: Annotated[str, typer.Argument(help="user:<id>, topic:<name> or all; several are separated by commas.")],
    body: Annotated[str, typer.Argument(help="A JSON value; with --text any text.")],
    text: Annotated[bool, typer.Option("--text", help="BODY is plain text, not JSON.")] = False,
    message_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Idempotency key: the same one again is delivered once.")
    ] = None,
    ttl_s: Annotated[
        int | None, typer.Option("--ttl", metavar="SECONDS", help="After that it is not delivered any more.")
    ] = None,
    exclude: Annotated[
        str | None, typer.Option("--exclude", metavar="WHOM", help="Pass this by: session:<id> or device:<user>,<device>.")
    ] = None,
    collapse: Annotated[
        str | None, typer.Option("--collapse", metavar="KEY", help="Of messages with this key a replay has only the newest.")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="Not before then: Unix ms, or as 2026-11-22T20:00:00+01:00.")
    ] = None,
    transient: Annotated[bool, typer.Option("--transient", help="Do not store it; whoever is not there misses it.")] = False,
    fast: Annotated[
        bool,
        typer.Option("--fast", help="Transient, and straight for dispatch: the fast lane. One TARGET, and BODY on one line."),
    ] = False,
    trace: Annotated[
        bool, typer.Option("--trace", help="Follow it, and draw what becomes of it; fail unless delivered.")
    ] = False,
    wait_s: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0.0, help="With --trace: how long to follow it at most.")
    ] = 5.0,
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Append a message for users, topics or everybody, as a producer would.

    Prints the id of the entry in the stream. The rules are checked here already, as collect would. With --trace the exit code
    is 0 when every node that has the user delivered it, or any node that of a topic or all, and 1 otherwise.

    Example: pushway send user:alice '{"text":"hello"}' --ttl 3600
    """
    settings = people_settings(config)
    wishes = {
        "to": target,
        "text" if text else "body": body,
        # One of its own, so that it can be followed from its first stage on.
        "id": message_id or (f"traced-{secrets.token_hex(6)}" if trace else None),
        "ttl": None if ttl_s is None else str(ttl_s),
        "exclude": exclude,
        "collapse": collapse,
        "at": None if at is None else str(read_time(at, "--at")),
        "transient": "1" if transient or fast else None,
        "trace": "1" if trace else None,
    }
    fields = {name: value for name, value in wishes.items() if value is not None}
    message = _check(fields, settings)
    stream = _stream(message, fields, fast=fast, settings=settings)
    if trace and message.at_ms is not None:
        raise RuleBroken("--trace", "follows what is sent at once: leave out --trace or --at")
    progress = Progress(message.targets) if trace else None
    anyio.run(_send, settings, stream, fields, message, progress, wait_s, as_json)
    if progress and not progress.delivered:
        raise NotDelivered("; ".join(f"{target}: {why}" for target, why in progress.troubles.items()))


def _check(fields: dict[str, str], settings: Settings) -> Message:
    """Return the message as collect will read it.

    Raises:
        RuleBroken: for what collect would refuse.
    """
    now_ms = time.time_ns() // 1_000_000
    # What a shell passes on may not be UTF-8; Python carries such bytes as lone surrogates, and here they come back.
    pairs = [(name.encode(), value.encode(errors="surrogateescape")) for name, value in fields.items()]
    try:
        return read_message(Entry.of(f"{now_ms}-0", pairs), 0, now_ms, settings)
    except RuleBroken as exc:
        if exc.field != "body":
            raise
        raise RuleBroken("BODY", f"{exc.rule}: add --text") from exc


def _stream(message: Message, fields: dict[str, str], *, fast: bool, settings: Settings) -> str:
    """Return where the message goes.

    Raises:
        RuleBroken: for what only the fast lane refuses.
    """
    keys = Keys(settings.prefix, shard_of_target(message.targets[0], settings.shards))
    if not fast:
        return keys.intake()
    if "," in fields["to"]:
        raise RuleBroken("TARGET", "more than one (an entry of the fast lane has one)")
    if _CONTROL.search(fields.get("body", "")):
        raise RuleBroken("BODY", "has a control character (the fast lane takes JSON on one line)")
    return keys.fast()


async def _send(
    settings: Settings,
    stream: str,
    fields: dict[str, str],
    message: Message,
    progress: Progress | None,
    wait_s: float,
    as_json: bool,
) -> None:
    """Append the message, print what there is to print, and follow it where it is traced."""
    async with redis_at_hand(settings) as redis:
        begins = await ends(redis, settings, message.targets) if progress else {}
        # redis-py annotates what XADD takes so widely that a dict of strings does not fit.
        reply: bytes = await redis.execute_command(  # type: ignore[no-untyped-call]
            "XADD", stream, "*", *chain.from_iterable(fields.items())
        )
        entry = reply.decode()
        if not as_json:
            typer.echo(entry)
        if progress:
            with _drawing(progress, message.id, quiet=as_json) as redraw:
                await follow(redis, begins, message.id, progress, redraw, wait_s)
    if as_json:
        print_json({"stream": stream, "entry": entry} | (_told(progress, message.id) if progress else {}))


@contextmanager
def _drawing(progress: Progress, message_id: str, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """Yield what draws the waterfall anew; where there is no terminal it is printed once, at the end."""
    console = waterfall_console()
    if quiet or not console.is_terminal:
        yield lambda: None
        if not quiet:
            console.print(draw(message_id, progress.events))
        return
    with Live(draw(message_id, []), console=console, auto_refresh=False) as live:
        yield lambda: live.update(draw(message_id, progress.events), refresh=True)


def _told(progress: Progress, message_id: str) -> dict[str, object]:
    events = [describe(event) for event in by_time(progress.events)]
    return {"id": message_id, "delivered": progress.delivered, "events": events}
