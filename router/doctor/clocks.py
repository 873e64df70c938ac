"""Clocks: how far those of Redis, MongoDB and auth are from this machine's.

Redis' clock gives seqs and decides when routes and leases lapse, MongoDB's removes what has expired, auth's and the edges'
agree on when a token ends, and those of collect and the edges on when a message does.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import anyio
import httpx
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from router.auth.jwks import JWKS_PATH
from router.doctor.findings import Finding, error, ok, warning
from router.mongo_client import STORE_OUTAGE, Document, cancelled_once
from router.redis_client import OUTAGE
from router.settings import Settings
from router.tls.trust import http_trust

APART_MS: Final = 1_000
_DATE_MS: Final = 1_000
"""HTTP's Date is a whole second, and servers write it anew once in one: it may be two seconds behind, one on average."""

_SYNC: Final = "have every machine keep its clock by NTP (chrony, systemd-timesyncd)"


@dataclass(frozen=True, slots=True)
class Reading:
    """A clock that was read over the network.

    Attributes:
        clock: whose it is.
        ahead_ms: how far it is ahead of this machine's; negative when it is behind.
        uncertain_ms: by how much that may be wrong, either way.
    """

    clock: str
    ahead_ms: float
    uncertain_ms: float


def judge(readings: Sequence[Reading], leeway_s: float) -> list[Finding]:
    """Return what is to be thought of the clocks.

    Args:
        readings: of those that could be read.
        leeway_s: `token_leeway_s`: beyond it, tokens that are good are refused.
    """
    return [_judge_one(reading, leeway_s) for reading in readings]


def _judge_one(reading: Reading, leeway_s: float) -> Finding:
    surely_ms = abs(reading.ahead_ms) - reading.uncertain_ms
    way = "ahead of" if reading.ahead_ms > 0 else "behind"
    told = f"{reading.clock} is {abs(reading.ahead_ms) / 1000:,.1f} s {way} this machine's"
    if surely_ms > max(APART_MS, leeway_s * 1000):
        return error(f"{told}: tokens and messages end too early or too late", _SYNC)
    if surely_ms > APART_MS:
        return warning(told, _SYNC)
    return ok(f"{reading.clock} agrees with this machine's, to {max(1, abs(reading.ahead_ms) + reading.uncertain_ms):,.0f} ms")


async def examine(redis: Redis, mongo: AsyncMongoClient[Document], settings: Settings) -> list[Finding]:
    """Return what is to be thought of the clocks; a server that is away is told of by its own group."""
    readings: list[Reading] = []

    async def read(clock: str, ask: Callable[[], Awaitable[float]], behind_ms: float = 0.0) -> None:
        began_s = time.time()
        try:
            there_s = await ask()
        except (*OUTAGE, *STORE_OUTAGE, httpx.HTTPError, ValueError):
            return
        ended_s = time.time()
        ahead_ms = (there_s - (began_s + ended_s) / 2) * 1000 + behind_ms
        readings.append(Reading(clock, ahead_ms, (ended_s - began_s) * 500 + behind_ms))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read, "Redis' clock", lambda: _redis_s(redis))
        tasks.start_soon(read, "MongoDB's clock", lambda: _mongo_s(mongo))
        tasks.start_soon(read, "auth's clock", lambda: _auth_s(settings), _DATE_MS)
    return judge(sorted(readings, key=lambda reading: reading.clock), settings.token_leeway_s)


async def _redis_s(redis: Any) -> float:  # noqa: ANN401 - its types name the replies of every protocol
    seconds, microseconds = await redis.time()
    return float(seconds + microseconds / 1_000_000)


@cancelled_once
async def _mongo_s(mongo: AsyncMongoClient[Document]) -> float:
    hello = await mongo.admin.command("hello")
    local: datetime = hello["localTime"]
    return local.timestamp()


async def _auth_s(settings: Settings) -> float:
    async with httpx.AsyncClient(timeout=settings.auth_timeout_s, trust_env=False, verify=http_trust(settings)) as http:
        answer = await http.get(settings.auth_url.rstrip("/") + JWKS_PATH)
    return parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
