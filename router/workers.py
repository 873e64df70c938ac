"""Who works: the workers of a role that live, and which of them holds each shard.

A worker is one process of collect or dispatch. It announces itself for as long as a lease lasts, so that one that dies is
missed no sooner than its leases are free.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Sequence
from typing import Final

import anyio
from redis.asyncio import Redis

import lua
from router.keys import Keys
from router.redis_client import OUTAGE
from router.settings import Settings
from router.share import FREE

ROLES: Final = ("collect", "dispatch")

UNKNOWN: Final = "?"
"""In the place of a holder: the shard's server cannot be asked."""

_INCARNATION_CHARS: Final = string.digits + string.ascii_lowercase
_INCARNATION_LENGTH: Final = 6
_LEAVE_TIMEOUT_S: Final = 1.0


def make_worker_id(name: str) -> str:
    """Return `<name>.<incarnation>`: several workers may run on one host, and one that starts anew is another."""
    return f"{name}.{''.join(secrets.choice(_INCARNATION_CHARS) for _ in range(_INCARNATION_LENGTH))}"


class Workers:
    """The workers of a role, in Redis.

    Args:
        redis: where they stand.
        settings: the prefix, how many shards there are, and `lease_ms`.
        role: `collect` or `dispatch`.
    """

    def __init__(self, redis: Redis, settings: Settings, role: str) -> None:
        self._redis = redis
        self._key = Keys(settings.prefix, 0).workers(role)
        self._leases = [Keys(settings.prefix, shard).lease(role) for shard in range(settings.shards)]
        self._life_ms = settings.lease_ms
        self._beat = redis.register_script(lua.source("worker_beat"))

    async def beat(self, worker: str) -> list[str]:
        """Say that a worker lives, and return all that do.

        Raises:
            RedisError, OSError: when Redis is away.
        """
        return sorted(one.decode() for one in await self._beat(keys=[self._key], args=[worker, self._life_ms]))

    async def leave(self, worker: str) -> None:
        """Say that a worker ends; where Redis is away, it lapses."""
        with anyio.move_on_after(_LEAVE_TIMEOUT_S, shield=True):
            try:
                await self._redis.zrem(self._key, worker)
            except OUTAGE:
                return

    async def living(self) -> list[str]:
        """Return the workers that live, without being one.

        Raises:
            RedisError, OSError: when Redis is away.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zrange(self._key, 0, -1, withscores=True)
            pipe.time()
            workers, (seconds, micros) = await pipe.execute()
        now_ms = seconds * 1000 + micros // 1000
        return sorted(worker.decode(errors="backslashreplace") for worker, expiry_ms in workers if expiry_ms > now_ms)

    async def holders(self) -> list[str]:
        """Return who holds each shard, by number; `FREE` where nobody does, `UNKNOWN` where that cannot be found out.

        Raises:
            RedisError, OSError: when no shard's Redis can be asked.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in self._leases:
                pipe.get(key)
            replies = await pipe.execute(raise_on_error=False)
        if all(isinstance(reply, Exception) for reply in replies):
            raise replies[0]
        return [UNKNOWN if isinstance(reply, Exception) else holder_of(reply) for reply in replies]


def holder_of(lease: bytes | None) -> str:
    """Return the worker that a lease names; `FREE` where there is none."""
    return FREE if lease is None else lease.decode(errors="backslashreplace").partition(" ")[0]


def spread(workers: Sequence[str], holders: Sequence[str]) -> dict[str, int]:
    """Return worker → how many shards it holds, of those that live and those that hold any."""
    names = sorted({*workers, *holders} - {FREE, UNKNOWN})
    return {worker: holders.count(worker) for worker in names}
