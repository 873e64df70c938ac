"""A client of the primary that sentinels tell of.

It is the driver's client on a pool that follows the primary (`router.primary_pool`). Who that is, is asked about every second,
and at once when there is doubt: when a connection breaks, or a server turns out to be a replica.

Source: https://redis.io/docs/latest/develop/reference/sentinel-clients/
"""

from __future__ import annotations

import random
from typing import Any, Final

import anyio
from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from router.primaries import ASK_TIMEOUT_S, SentinelPrimary, Told
from router.primary_pool import Pools, PrimaryPool
from router.redis_url import Address, RedisUrl
from router.timed_redis import TimedRedis
from router.waiting_pool import WaitingPool

_ANY_SLOT: Final = 0
_OF_THE_PRIMARY: Final = frozenset({"db", "username", "password"})
"""What of the address is for the primary alone."""


def open_watched(url: RedisUrl, pattern: WaitingPool) -> TimedRedis:
    """Return a client that has not connected yet.

    Args:
        url: the sentinels, and what they call the primary.
        pattern: a pool whose connections are as those to the primary are to be, but for the address.
    """

    async def ask() -> Told:
        return await _ask_all(url, pattern)

    primaries = SentinelPrimary(ask)
    pool = PrimaryPool(_ANY_SLOT, primaries, Pools(pattern, primaries), pattern)
    redis = TimedRedis(connection_pool=pool)
    redis.auto_close_connection_pool = True
    return redis


async def _ask_all(url: RedisUrl, pattern: WaitingPool) -> Told:
    """Return what the first sentinel says that answers and knows.

    Raises:
        RedisError, OSError: when there is none.
    """
    failure: Exception | None = None
    # Not always the same first: it may be away, which takes time.
    for sentinel in random.sample(url.addresses, len(url.addresses)):
        try:
            return await _ask(sentinel, url, pattern)
        except (RedisError, OSError) as exc:
            failure = exc
    raise RedisConnectionError(f"no sentinel knows a primary called {url.sentinel!r}") from failure


async def _ask(sentinel: Address, url: RedisUrl, pattern: WaitingPool) -> Told:
    """Return what a sentinel says.

    Raises:
        RedisError, OSError: when it cannot be asked, or knows of no such primary.
    """
    options: dict[str, Any] = {name: value for name, value in pattern.connection_kwargs.items() if name not in _OF_THE_PRIMARY}
    options |= {"host": sentinel.host, "port": sentinel.port}
    if url.sentinel_password:
        options |= {"username": url.sentinel_user or None, "password": url.sentinel_password}
    pool = ConnectionPool(connection_class=pattern.connection_class, **options)
    try:
        with anyio.fail_after(ASK_TIMEOUT_S):
            client: Any = Redis(connection_pool=pool)
            # The epoch first. A failover between the two makes it too low for the address, which the next question mends; the
            # old address under the new epoch would be believed until the failover after that. MASTER tells an address as well,
            # but in the middle of a failover the old one, with the new epoch.
            flat = await client.execute_command("SENTINEL", "MASTER", url.sentinel)
            found = await client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", url.sentinel)
    finally:
        with anyio.move_on_after(ASK_TIMEOUT_S, shield=True):
            await pool.disconnect()
    if not found:
        raise RedisConnectionError(f"{sentinel} has just been told to forget {url.sentinel!r}")
    epoch = dict(zip(flat[::2], flat[1::2], strict=True))[b"config-epoch"]
    return Told(Address(found[0].decode(), int(found[1])), int(epoch))
