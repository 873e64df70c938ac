"""`pushway send`."""

from __future__ import annotations

import time
from itertools import chain
from typing import Annotated

import anyio
import typer

from router.collect.entries import Entry, Message, read_message
from router.commands.options import AsJson, FoundConfig, people_settings
from router.commands.output import print_json
from router.commands.reach import redis_at_hand
from router.errors import RuleBroken
from router.keys import Keys
from router.settings import Settings
from router.shards import shard_of_target
from router.targets import USER_PREFIX


def send(
    target: Annotated[str, typer.Argument(help="user:<id>; several are separated by commas.")],
    body: Annotated[str, typer.Argument(help="A JSON value; with --text any text.")],
    text: Annotated[bool, typer.Option("--text", help="BODY is plain text, not JSON.")] = False,
    message_id: Annotated[
        str | None, typer.Option("--id", help="Idempotency key: the same one again is delivered once.")
    ] = None,
    ttl_s: Annotated[int | None, typer.Option("--ttl", help="Seconds after which it is not delivered any more.")] = None,
    transient: Annotated[bool, typer.Option("--transient", help="Do not store it; whoever is not there misses it.")] = False,
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Append a message for a user, as a producer would.

    Prints the id of the entry in the stream. The rules are checked here already, as collect would.

    Example: pushway send user:alice '{"text":"hello"}' --ttl 3600
    """
    settings = people_settings(config)
    wishes = {
        "to": target,
        "text" if text else "body": body,
        "id": message_id,
        "ttl": None if ttl_s is None else str(ttl_s),
        "transient": "1" if transient else None,
    }
    fields = {name: value for name, value in wishes.items() if value is not None}
    message = _check(fields, settings)
    stream = Keys(settings.prefix, shard_of_target(message.targets[0], settings.shards)).intake()
    entry = anyio.run(_append, settings, stream, fields)
    if as_json:
        print_json({"stream": stream, "entry": entry})
    else:
        typer.echo(entry)
    if silent := [name for name in message.targets if not name.startswith(USER_PREFIX)]:
        typer.echo(f"note: edges do not deliver {', '.join(silent)} in this version; what is durable is stored", err=True)


def _check(fields: dict[str, str], settings: Settings) -> Message:
    """Return the message as collect will read it.

    Raises:
        RuleBroken: for what collect would refuse.
    """
    now_ms = time.time_ns() // 1_000_000
    # What a shell passes on may not be UTF-8; Python carries such bytes as lone surrogates, and here they come back.
    pairs = [(name.encode(), value.encode(errors="surrogateescape")) for name, value in fields.items()]
    try:
        return read_message(Entry(f"{now_ms}-0", pairs), 0, now_ms, settings)
    except RuleBroken as exc:
        if exc.field != "body":
            raise
        raise RuleBroken("BODY", f"{exc.rule}. For plain text add --text") from exc


async def _append(settings: Settings, stream: str, fields: dict[str, str]) -> str:
    async with redis_at_hand(settings) as redis:
        # redis-py annotates what XADD takes so widely that a dict of strings does not fit.
        entry: bytes = await redis.execute_command(  # type: ignore[no-untyped-call]
            "XADD", stream, "*", *chain.from_iterable(fields.items())
        )
    return entry.decode()
