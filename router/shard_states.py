"""What a shard is doing, read for people: where it is, who works on it, and what waits there.

One round trip a shard. In a Cluster a shard whose primary is away says so, and the others are told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import AskError, TryAgainError

from router.backlog import Waiting, read_waiting
from router.cluster_redis import ClusterRedis, client_at, slot_of
from router.keys import Keys
from router.mongo_client import brief
from router.redis_client import OUTAGE
from router.settings import Settings
from router.workers import ROLES, holder_of

_LOOKS_A_STREAM: Final = 3
_NOTHING: Final = Waiting(0, 0, 0.0)


@dataclass(frozen=True, slots=True)
class ShardState:
    """A shard as it is at this moment.

    Attributes:
        shard: its number.
        slot: of all its keys, in a Cluster.
        primary: who has that slot; None where there is no Cluster.
        collect: who holds collect's lease, `<name>.<incarnation>`; "" where nobody does.
        dispatch: who holds dispatch's.
        intake: what waits in `in`.
        out: what waits in `out`.
        fast: what waits in `fast`.
        pending: seqs given to the batch that collect has in hand.
        away: why its server could not be asked; "" where it could, and else all from `collect` on says nothing.
    """

    shard: int
    slot: int
    primary: str | None
    collect: str = ""
    dispatch: str = ""
    intake: Waiting = _NOTHING
    out: Waiting = _NOTHING
    fast: Waiting = _NOTHING
    pending: int = 0
    away: str = ""


async def read_shards(redis: Redis, settings: Settings) -> list[ShardState]:
    """Return all shards, by number.

    Raises:
        RedisError, OSError: when Redis cannot be asked; in a Cluster, when nobody knows where the slots are.
    """
    return [await _read_shard(redis, Keys(settings.prefix, shard)) for shard in range(settings.shards)]


async def _read_shard(redis: Redis, keys: Keys) -> ShardState:
    slot = slot_of(keys.base)
    if not isinstance(redis, ClusterRedis):
        return await _ask(redis, keys, slot, None)
    primary = str(await redis.primary_of(keys.base))
    try:
        return await _ask(redis, keys, slot, primary)
    except (AskError, TryAgainError):
        return ShardState(keys.shard, slot, primary, away="its slot is half moved")
    except OUTAGE as exc:
        return ShardState(keys.shard, slot, primary, away=brief(exc))


async def _ask(redis: Redis, keys: Keys, slot: int, primary: str | None) -> ShardState:
    lanes = (keys.out(), keys.fast())
    async with client_at(redis, keys.base).pipeline(transaction=False) as pipe:
        for role in ROLES:
            pipe.get(keys.lease(role))
        pipe.time()
        pipe.xlen(keys.intake())
        pipe.hlen(keys.pending())
        pipe.xrange(keys.intake(), count=1)
        for stream in lanes:
            pipe.xlen(stream)
            pipe.xpending(stream, "dispatch")
            pipe.xrange(stream, count=1)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
    for reply in replies:
        # A group that is not there yet is an answer like any other.
        if isinstance(reply, Exception) and not str(reply).startswith("NOGROUP"):
            raise reply
    collect, dispatch, (seconds, micros), *looks = replies
    now_ms = (seconds * 1_000_000 + micros) // 1_000
    intake, out, fast = (read_waiting(look, now_ms) for look in zip(*[iter(looks)] * _LOOKS_A_STREAM, strict=True))
    return ShardState(keys.shard, slot, primary, holder_of(collect), holder_of(dispatch), intake, out, fast, intake.pending)
