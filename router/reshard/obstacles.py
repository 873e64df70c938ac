"""What is in the way of another number of shards: whoever works, and whatever is not finished.

A seq, a place in a stream and a lease belong to a shard. So all that was appended has to be through, and nobody may be there
who appends, takes or holds anything by the old number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from redis.asyncio import Redis

from router.cluster_redis import client_at
from router.directory import read_nodes
from router.keys import Keys
from router.settings import Settings
from router.workers import ROLES, Workers


async def find_obstacles(redis: Redis, settings: Settings) -> list[str]:
    """Return what is in the way, in words; nothing where the system is drained.

    Args:
        redis: where it is.
        settings: of the system as it is set up.

    Raises:
        RedisError, OSError: when Redis cannot be asked.
    """
    found = [f"node {node.id} lives: end every edge" for node in await read_nodes(redis, settings) if node.alive]
    for role in ROLES:
        living = await Workers(redis, settings, role).living()
        found += [f"worker {worker} lives: end every {role}, once nothing waits" for worker in living]
    for shard in range(settings.shards):
        found += await _of_shard(redis, Keys(settings.prefix, shard))
    return found


async def _of_shard(redis: Redis, keys: Keys) -> list[str]:
    async with client_at(redis, keys.base).pipeline(transaction=False) as pipe:
        for stream in _lanes(keys):
            pipe.xlen(stream)
        pipe.hlen(keys.pending())
        for role in ROLES:
            pipe.get(keys.lease(role))
        *lengths, pending, collect, dispatch = await pipe.execute()
    return list(_judge(keys, lengths, pending, [collect, dispatch]))


def _lanes(keys: Keys) -> Sequence[str]:
    return keys.intake(), keys.out(), keys.fast()


def _judge(keys: Keys, lengths: Sequence[int], pending: int, leases: Sequence[Any]) -> Iterator[str]:
    for stream, length in zip(_lanes(keys), lengths, strict=True):
        if length:
            yield f"{stream} has {length:,}: end whoever appends, and let collect and dispatch finish"
    if pending:
        yield f"{keys.pending()} has {pending:,}: a batch is unfinished; start collect, and let it finish"
    for role, lease in zip(ROLES, leases, strict=True):
        if lease is not None:
            yield f"{keys.lease(role)} is held by {lease.decode(errors='backslashreplace').partition(' ')[0]}: end it, or wait"
