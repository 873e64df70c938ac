"""Whether a server or service can be used now: asked, never assumed after a while."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any, Final

import anyio
import httpx
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from router.errors import SetupError
from router.up.embedded import HOST
from router.up.plan import Port

_ASK_TIMEOUT_S: Final = 2.0
_POLL_S: Final = 0.05


async def until_ready(url: str) -> None:
    """Return when what stands behind the URL is ready (see `is_ready`). It is for the caller to give up."""
    while not await is_ready(url):  # noqa: ASYNC110 - it is another process: there is no event to wait for
        await anyio.sleep(_POLL_S)


async def is_ready(url: str) -> bool:
    """Tell whether `http:` answers with 200, `redis:` and `mongodb:` answer a ping."""
    ask = {"http": _http_answers, "mongodb": _mongo_answers, "mongodb+srv": _mongo_answers}
    return await ask.get(url.partition(":")[0], _redis_answers)(url)


async def _http_answers(url: str) -> bool:
    async with httpx.AsyncClient(timeout=_ASK_TIMEOUT_S, trust_env=False) as client:
        try:
            return (await client.get(url)).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


async def _redis_answers(url: str) -> bool:
    async with Redis.from_url(url, socket_timeout=_ASK_TIMEOUT_S, socket_connect_timeout=_ASK_TIMEOUT_S) as client:
        try:
            return bool(await client.ping())
        except (RedisError, OSError):
            return False


async def _mongo_answers(url: str) -> bool:
    timeout_ms = int(_ASK_TIMEOUT_S * 1000)
    async with AsyncMongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=timeout_ms, socketTimeoutMS=timeout_ms) as client:
        try:
            return bool(await client.admin.command("ping"))
        except PyMongoError:
            return False


def check_ports(ports: Iterable[Port]) -> None:
    """Refuse to start where something listens already.

    Raises:
        SetupError: naming the first port that is taken, what it is for, and the flag that chooses another.
    """
    for port in ports:
        with socket.socket() as probe:
            # As the servers themselves do, so that connections of a moment ago (TIME_WAIT) do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port.number))
            except OSError:
                raise SetupError(f"port {port.number} ({port.use}) is taken; pass {port.flag}") from None
