"""Presence: whether its keys are what they should be. Where one is not, offline is said of nobody in the shard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from redis.asyncio import Redis

from router.doctor.findings import Finding, error, ok
from router.keys import Keys
from router.settings import Settings

_NONE: Final = "none"
"""Redis' word for the type of a key that is not there."""


async def examine(redis: Redis, settings: Settings) -> list[Finding]:
    """Return what is to be thought of the keys of presence of all shards.

    Raises:
        RedisError, OSError: when Redis cannot be asked.
    """
    found = []
    for shard in range(settings.shards):
        keys = Keys(settings.prefix, shard)
        wanted = {keys.nodes(): "zset", keys.online(): "hash", keys.leaving(): "zset", keys.events(): "stream"}
        async with redis.pipeline(transaction=False) as pipe:
            for key in wanted:
                pipe.type(key)
            types = [name.decode() for name in await pipe.execute()]
        found += judge(shard, wanted, dict(zip(wanted, types, strict=True)))
    return found


def judge(shard: int, wanted: Mapping[str, str], types: Mapping[str, str]) -> list[Finding]:
    """Return what is to be thought of a shard's keys.

    Args:
        shard: its number.
        wanted: key → the type that it should have.
        types: key → the type that it has.
    """
    broken = [key for key, kind in types.items() if kind not in {wanted[key], _NONE}]
    remedy = "somebody has put it there: DEL it; edges and dispatch write it anew"
    return [
        error(f"{key} is a {types[key]} and should be a {wanted[key]}: offline is said of nobody in shard {shard}", remedy)
        for key in broken
    ] or [ok(f"shard {shard}: its keys are what they should be")]
