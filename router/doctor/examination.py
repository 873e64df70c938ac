"""The examination as a whole: groups beside each other, each with a time limit, and a server that is away told once.

configuration ─────────────────────────────────────────────
redis answers? ─▶ redis, cluster, config, streams, leases, edges, presence, strays, hardening
mongodb ───────────────────────────────────────────────────
auth ──────────────────────────────────────────────────────
certificates ──────────────────────────────────────────────
clocks ────────────────────────────────────────────────────
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import anyio
import httpx
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from router.doctor import (
    auth_server,
    certificates,
    clocks,
    cluster,
    configuration,
    edges,
    hardening,
    leases,
    mongo_server,
    prefix,
    presence,
    redis_server,
    streams,
)
from router.doctor.findings import Examined, Finding, error, warning
from router.errors import SettingError, SetupError
from router.mongo_client import STORE_OUTAGE, Document, brief, open_mongo
from router.redis_client import OUTAGE, open_redis, server_name
from router.settings import Settings

ANSWER_TIMEOUT_S: Final = 4.0
"""How long one answer of a server may take: a person waits, so it is shorter than the services' own patience."""

GROUP_TIMEOUT_S: Final = 12.0

GROUPS: Final = (
    "settings",
    "Redis",
    "cluster",
    "prefix",
    "leases",
    "streams",
    "edges",
    "presence",
    "strays",
    "MongoDB",
    "auth",
    "certificates",
    "clocks",
    "hardening",
)
"""In the order in which they are told."""

T = TypeVar("T")

Ask = Callable[[], Awaitable[list[Finding]]]
Tell = Callable[[str, str], None]
"""Is told which group is at what, in words: `BEGUN` first, "" when it has ended."""

BEGUN: Final = "begun"


async def examine(settings: Settings, file: Path | None, tell: Tell) -> list[Examined]:
    """Return what every group found, in the order of `GROUPS`; those that could not begin are left out.

    Args:
        settings: those in force.
        file: where they come from.
        tell: see `Tell`.
    """
    found: dict[str, list[Finding]] = {}
    hasty = _hasty(settings)
    try:
        redis, mongo = _opened("redis_url", open_redis, hasty), _opened("mongo_url", open_mongo, hasty)
    except SettingError as exc:
        return [Examined("settings", [error(f"{exc.name} {exc.problem}", "mend it; nothing else was looked at")])]
    try:
        async with anyio.create_task_group() as tasks:

            def start(group: str, ask: Ask) -> None:
                tasks.start_soon(_examine, found, group, ask, tell)

            start("settings", partial(configuration.examine, settings, file))
            start("MongoDB", partial(_mongodb, mongo, hasty))
            start("auth", partial(auth_server.examine, hasty))
            start("certificates", partial(certificates.examine, settings))
            start("clocks", partial(clocks.examine, redis, mongo, hasty))
            silent = await _silence(redis, hasty)
            if silent:
                found["Redis"] = [silent]
                start("hardening", partial(hardening.examine, None, hasty))
            else:
                start("Redis", partial(redis_server.examine, redis, hasty))
                start("cluster", partial(cluster.examine, redis, hasty))
                start("hardening", partial(hardening.examine, redis, hasty))
                start("prefix", partial(prefix.examine_config, redis, hasty))
                start("leases", partial(leases.examine, redis, hasty))
                start("streams", partial(streams.examine, redis, hasty))
                start("edges", partial(edges.examine, redis, hasty))
                start("presence", partial(presence.examine, redis, hasty))
                start("strays", partial(prefix.examine_strays, redis, hasty, partial(tell, "strays")))
    finally:
        with anyio.move_on_after(ANSWER_TIMEOUT_S, shield=True):
            await redis.aclose()
            await mongo.close()
    return [Examined(group, found[group]) for group in GROUPS if found.get(group)]


def _opened(name: str, open_it: Callable[[Settings], T], settings: Settings) -> T:
    """Return a client that has not connected yet.

    Raises:
        SettingError: when its driver does not understand the address. What that says of it may quote a password.
    """
    try:
        return open_it(settings)
    except SetupError as exc:
        raise SettingError(name, "", f"cannot be used: {exc}") from None
    except (ValueError, *STORE_OUTAGE):
        raise SettingError(name, "", "is not an address that its driver understands") from None


def _hasty(settings: Settings) -> Settings:
    """Return the settings with timeouts that a person has the patience for."""
    names = ("redis_timeout_s", "mongo_timeout_s", "auth_timeout_s")
    return settings.model_copy(update={name: min(getattr(settings, name), ANSWER_TIMEOUT_S) for name in names})


async def _silence(redis: Redis, settings: Settings) -> Finding | None:
    """Return what is to be thought of a Redis that does not answer; None of one that does."""
    try:
        await redis.time()
    except OUTAGE as exc:
        where = server_name(settings)
        return error(
            f"Redis at {where} does not answer ({brief(exc)}), so that nothing in it could be looked at",
            "start it, or set redis_url to where it is; user and password stand in it",
        )
    return None


async def _examine(found: dict[str, list[Finding]], group: str, ask: Ask, tell: Tell) -> None:
    """Have a group's findings in `found`, whatever happens to it."""
    tell(group, BEGUN)
    with anyio.move_on_after(GROUP_TIMEOUT_S) as scope:
        try:
            found[group] = await ask()
        except (*OUTAGE, *STORE_OUTAGE, httpx.HTTPError) as exc:
            found[group] = [warning(f"this could not be looked at: {brief(exc)}", "look again; may the user do that (ACL)?")]
    if scope.cancelled_caught:
        found[group] = [error(f"no answer within {GROUP_TIMEOUT_S:g} s", "look again; the server or the network is overloaded")]
    tell(group, "")


async def _mongodb(mongo: AsyncMongoClient[Document], settings: Settings) -> list[Finding]:
    try:
        return await mongo_server.examine(mongo, settings)
    except STORE_OUTAGE as exc:
        return [
            error(
                f"MongoDB does not answer ({brief(exc)}): nothing is accepted, and nothing is replayed",
                "start it, or set mongo_url to where it is; user and password stand in it",
            )
        ]
