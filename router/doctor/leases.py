"""Leases: that somebody works on every shard, in each role."""

from __future__ import annotations

from typing import Final

from redis.asyncio import Redis

from router.doctor.findings import Finding, error, ok, warning
from router.keys import Keys
from router.settings import Settings

ROLES: Final = ("collect", "dispatch")
_NEVER_EXPIRES: Final = -1


async def examine(redis: Redis, settings: Settings) -> list[Finding]:
    """Return who works on which shard, and where nobody does.

    Raises:
        RedisError, OSError: when Redis cannot be asked.
    """
    found = []
    for shard in range(settings.shards):
        for role in ROLES:
            key = Keys(settings.prefix, shard).lease(role)
            async with redis.pipeline(transaction=True) as pipe:
                pipe.get(key)
                pipe.pttl(key)
                held, left_ms = await pipe.execute()
            found.append(judge(role, shard, key, held.decode(errors="backslashreplace") if held else None, left_ms))
    return found


def judge(role: str, shard: int, key: str, held: str | None, left_ms: int) -> Finding:
    """Return what is to be thought of a lease.

    Args:
        role: of whom.
        shard: its number.
        key: of the lease.
        held: owner and token; None where nobody has it.
        left_ms: until it lapses unless renewed, as PTTL says.
    """
    if held is None:
        return error(
            f"nobody works on shard {shard} as {role}",
            f"start pushway {role}, or look at its log: one that runs takes the lease within lease_ms",
        )
    owner = held.partition(" ")[0]
    if left_ms == _NEVER_EXPIRES:
        return warning(
            f"shard {shard}, {role}: {owner} holds the lease for ever, so nobody takes over when it dies",
            f"somebody has written the lease by hand: once {owner} is no service that runs, DEL '{key}'",
        )
    return ok(f"shard {shard}, {role}: {owner}")
