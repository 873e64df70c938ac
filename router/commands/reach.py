"""Reaching the servers on behalf of a person: an outage is told in one line, with what to do about it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from router.errors import PushwayError, SetupError
from router.keys import config_key
from router.redis_client import OUTAGE, open_redis, refuse_resharding, server_name
from router.settings import Settings
from router.tls.trust import why_untrusted

ADVICE: Final = "is `scripts/up` running?"


class NotReached(PushwayError):
    """A server does not answer, or not as it should; the text says what to do."""


@asynccontextmanager
async def redis_at_hand(settings: Settings) -> AsyncIterator[Redis]:
    """Yield a client for the Redis in the settings, which is set up for as many shards as they say.

    Raises:
        NotReached: when it cannot be asked, now or later in the block.
        SetupError: when it was set up for another number of shards.
    """
    async with redis_as_it_is(settings) as redis:
        await _check_shards(redis, settings)
        yield redis


@asynccontextmanager
async def redis_as_it_is(settings: Settings) -> AsyncIterator[Redis]:
    """Yield a client for the Redis in the settings, for whatever number of shards it is set up.

    Raises:
        NotReached: when it cannot be asked, now or later in the block.
    """
    try:
        async with open_redis(settings) as redis:
            yield redis
    except OUTAGE as exc:
        raise NotReached(_explain(exc, settings)) from exc


async def _check_shards(redis: Redis, settings: Settings) -> None:
    key = config_key(settings.prefix)
    shards, resharding = await redis.hmget(key, ["shards", "resharding"])
    refuse_resharding(key, resharding)
    if shards is not None and int(shards) != settings.shards:
        raise SetupError(
            f"{key} says shards={int(shards)}, this command is set to shards={settings.shards}: give it the --config of the "
            "services, or set PUSHWAY_SHARDS."
        )


def _explain(exc: Exception, settings: Settings) -> str:
    where = f"Redis at {server_name(settings)}"
    if isinstance(exc, AuthenticationError):
        return f"{where} refused the user or password in redis_url: {exc}"
    if untrusted := why_untrusted(exc, "redis_ca_file"):
        return f"{where} is not to be trusted ({untrusted}; set by redis_url)"
    if isinstance(exc, RedisConnectionError | RedisTimeoutError | OSError):
        return f"{where} cannot be reached ({_cause(exc)}; set by redis_url): {ADVICE}"
    return f"{where} refused: {exc}"


def _cause(exc: BaseException) -> str:
    """Return what the system said, where it said anything: the driver's words around it repeat the address."""
    below: BaseException | None = exc
    while below is not None:
        if isinstance(below, OSError) and below.errno:
            return os.strerror(below.errno)
        below = below.__cause__ or below.__context__
    return str(exc)
