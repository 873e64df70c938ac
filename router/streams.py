"""What collect and dispatch share of reading a stream as the holder of its lease."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import ResponseError

import lua
from router.errors import Fenced

TAKEN_BEFORE: Final = "0"
"""Take what may have been in hand before, and is not done."""

NEW: Final = ">"
"""Take whatever stands there."""


_ENTRY_ID: Final = re.compile(r"\d{13,}-\d+")


def looks_like_entry(message_id: str) -> bool:
    """Tell whether an id looks like what XADD returns, which is what people ask for who gave their message none."""
    return _ENTRY_ID.fullmatch(message_id) is not None


@contextmanager
def fencing() -> Iterator[None]:
    """Turn the scripts' FENCED into `Fenced`."""
    try:
        yield
    except ResponseError as exc:
        if str(exc).startswith("FENCED"):
            raise Fenced(str(exc)) from None
        raise


async def take_from_group(redis: Redis, script: AsyncScript, stream: str, group: str, keys: list[str], args: list[Any]) -> Any:  # noqa: ANN401 - a script's reply has whatever shape the script gives it
    """Call a script that reads a consumer group, and make the group first where it is missing.

    A group begins with the oldest entry, so what was appended before the first start, or to a stream that was lost and
    began anew, is not passed over.

    Raises:
        Fenced: when the lease is not the caller's.
        RedisError: when Redis is away.
    """
    with fencing():
        try:
            return await script(keys=keys, args=args)
        except ResponseError as exc:
            if not str(exc).startswith("NOGROUP"):
                raise
        await redis.register_script(lua.source("group_make"))(keys=[stream], args=[group])
        return await script(keys=keys, args=args)
