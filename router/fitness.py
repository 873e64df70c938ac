"""Waiting at the start until the servers answer, and refusing them when they are not fit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from redis.asyncio import Redis

from router.inbox import Inbox
from router.later import Later
from router.mongo_client import STORE_OUTAGE
from router.ops import Health
from router.outage import Outages
from router.redis_client import OUTAGE, check_redis
from router.settings import Settings

log = structlog.get_logger(__name__)

SILENCE_S: Final = 2.0
"""How long a first answer is waited for in silence. MongoDB's driver takes `mongo_timeout_s` to say that nobody is there."""


async def await_redis(redis: Redis, settings: Settings, health: Health) -> None:
    """Return when Redis answers and is fit.

    Raises:
        SetupError: when it answers and is not.
    """

    async def check() -> None:
        await check_redis(redis, settings)

    await _insist("redis", check, OUTAGE, Outages(health, settings))
    health.set("redis", ok=True)


async def await_inbox(inbox: Inbox, settings: Settings, health: Health) -> None:
    """Return when MongoDB answers and has the indexes.

    Raises:
        SetupError: when it answers and has not.
    """
    await _insist("mongo", inbox.check, STORE_OUTAGE, Outages(health, settings))
    health.set("mongo", ok=True)


async def await_later(later: Later, settings: Settings, health: Health) -> None:
    """Return when MongoDB answers and has the indexes of what waits.

    Raises:
        SetupError: when it answers and has not.
    """
    await _insist("mongo", later.check, STORE_OUTAGE, Outages(health, settings))


async def _insist(
    server: str, check: Callable[[], Awaitable[None]], outage: tuple[type[Exception], ...], outages: Outages
) -> None:
    late = asyncio.get_running_loop().call_later(SILENCE_S, _tell_of_waiting, server)
    try:
        while True:
            try:
                await check()
            except outage as exc:
                late.cancel()
                await outages.wait(server, exc)
            else:
                outages.over()
                return
    finally:
        late.cancel()


def _tell_of_waiting(server: str) -> None:
    log.info("server_awaited", server=server)
