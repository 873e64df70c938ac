"""What collect and dispatch share of reading a stream as the holder of its lease."""

from __future__ import annotations

import re
from types import TracebackType
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


class _Fencing:
    """Around calls of scripts. It keeps nothing, so that one serves all: it is entered for every message that comes alone."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(exc, ResponseError) and str(exc).startswith("FENCED"):
            raise Fenced(str(exc)) from None


_FENCING: Final = _Fencing()


def fencing() -> _Fencing:
    """Turn the scripts' FENCED into `Fenced`, within this block."""
    return _FENCING


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
