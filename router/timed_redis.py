"""A client of Redis whose every call is timed: the one place that all calls go through, whoever makes them.

A script counts under its file's name, anything else under its command's, so the label has as many values as our code has calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, Final

import anyio
from redis.asyncio.client import Pipeline, Redis

import lua
from router.metrics import REDIS_SECONDS

_SCRIPT: Final = "EVALSHA"

_WAITING: Final = frozenset({"XREAD"})
"""Commands that wait for news: how long they take says nothing of Redis."""


class TimedRedis(Redis):
    """A client that has the time of each call counted, failed ones too; and that closes as a whole."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close all connections, also when the caller is cancelled: the driver alone would leave them open then."""
        with anyio.CancelScope(shield=True):
            await super().aclose(close_connection_pool)

    async def __aexit__(self, *exc_info: object) -> None:
        # The driver's own is cut off before it comes to `aclose`.
        leave: Callable[..., Awaitable[None]] = super().__aexit__
        with anyio.CancelScope(shield=True):
            await leave(*exc_info)

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - the driver's signature
        """Execute a command and return its parsed reply."""
        command = args[0]
        execute: Callable[..., Awaitable[Any]] = super().execute_command
        if command in _WAITING:
            return await execute(*args, **options)
        with REDIS_SECONDS.labels(operation_of(command, args[1] if command == _SCRIPT else "")).time():
            return await execute(*args, **options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> TimedPipeline:
        """Return a pipeline, which is timed as one call."""
        return TimedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class TimedPipeline(Pipeline):
    """A pipeline that has the time of its one round trip counted."""

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send all commands and return their replies."""
        with REDIS_SECONDS.labels("pipeline").time():
            return await super().execute(raise_on_error)


@cache
def operation_of(command: str, digest: str) -> str:
    """Return what a call counts as: the name of the script with this digest, or the command."""
    return _names().get(digest, command.partition(" ")[0].lower())


@cache
def _names() -> dict[str, str]:
    """Return the name of each script by what Redis calls it."""
    return {hashlib.sha1(lua.source(name).encode()).hexdigest(): name for name in lua.names()}  # noqa: S324 - Redis' choice
