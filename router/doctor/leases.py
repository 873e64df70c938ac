"""Leases: that somebody works on every shard, in each role, and that workers share the shards evenly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from redis.asyncio import Redis

from router.doctor.findings import Finding, counted, error, note, ok, warning
from router.keys import Keys
from router.settings import Settings
from router.workers import ROLES, Workers, spread

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
    for role in ROLES:
        workers = Workers(redis, settings, role)
        living = await workers.living()
        found += judge_sharing(role, len(living), spread(living, await workers.holders()), settings.shards)
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


def judge_sharing(role: str, living: int, held: Mapping[str, int], shards: int) -> list[Finding]:
    """Return what is to be thought of how shards are shared; nothing where one worker has all.

    Args:
        role: of whom.
        living: how many workers there are.
        held: worker → shards that it holds, of all that live or hold any.
        shards: how many there are.
    """
    if len(held) < 2:  # noqa: PLR2004 - there is nothing to share
        return []
    told = ", ".join(f"{worker} {number}" for worker, number in sorted(held.items()))
    if max(held.values()) - min(held.values()) > 1:
        return [
            warning(
                f"workers do not share the shards of {role} evenly: {told}",
                "look again: that takes them a few seconds when one comes or goes; one that is slow, frozen or of an older "
                "version keeps what it has for longer",
            )
        ]
    found = [ok(f"{role}: {counted(shards, 'shard', 'shards')} shared evenly: {told}")]
    if living > shards:
        found.append(
            note(f"{role}: {counted(living, 'worker', 'workers')} for {counted(shards, 'shard', 'shards')}: the rest stand by")
        )
    return found
