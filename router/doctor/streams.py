"""What waits in the streams, for how long, and what died in them.

Ages are told by Redis' clock and the ids of entries, which begin with when they were appended.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from router.doctor.findings import Finding, counted, error, note, ok, warning
from router.keys import Keys
from router.settings import Settings

LATE_S: Final = 10.0
STUCK_S: Final = 60.0
FRESH_S: Final = 3_600.0
"""A dead letter younger than this is news."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a stream holds.

    Attributes:
        stream: its name.
        group: who reads it.
        length: entries in it, those in hand included.
        oldest_s: how long its first entry has been there; None where there is none.
        has_group: whether its group has been made.
        others: further groups.
    """

    stream: str
    group: str
    length: int
    oldest_s: float | None
    has_group: bool
    others: tuple[str, ...] = ()


async def examine(redis: Redis, settings: Settings) -> list[Finding]:
    """Return what is to be thought of the streams of all shards.

    Raises:
        RedisError, OSError: when Redis cannot be asked.
    """
    found: list[Finding] = []
    for shard in range(settings.shards):
        keys = Keys(settings.prefix, shard)
        for stream, group in ((keys.intake(), "collect"), (keys.out(), "dispatch"), (keys.fast(), "dispatch")):
            found += judge(await _backlog(redis, stream, group), settings)
        found += judge_dead(keys.dead(), *await _dead(redis, keys))
    return found


def judge(backlog: Backlog, settings: Settings) -> list[Finding]:
    """Return what is to be thought of a stream."""
    return [*_judge_waiting(backlog, settings), *_judge_groups(backlog)] or [_calm(backlog)]


def _calm(backlog: Backlog) -> Finding:
    return ok(f"{backlog.stream}: {backlog.length:,} waiting" if backlog.length else f"{backlog.stream}: nothing waits")


def _judge_waiting(backlog: Backlog, settings: Settings) -> Iterator[Finding]:
    stream, remedy = backlog.stream, f"is a {backlog.group} running, and well? See leases below, its log and its /readyz"
    if backlog.oldest_s is not None and backlog.oldest_s > LATE_S:
        told = f"{stream}: {_entries(backlog.length)} not done, the oldest for {_span(backlog.oldest_s)}"
        yield error(told, remedy) if backlog.oldest_s > STUCK_S else warning(told, remedy)
    if backlog.group == "dispatch" and backlog.length > settings.out_high_water:
        yield error(f"{stream}: {_entries(backlog.length)}, above out_high_water: collect pauses for it", remedy)


def _judge_groups(backlog: Backlog) -> Iterator[Finding]:
    if backlog.length and not backlog.has_group:
        yield warning(
            f"{backlog.stream}: {_entries(backlog.length)}, and no {backlog.group} has ever read from it",
            f"start pushway {backlog.group}; it begins with the oldest entry",
        )
    if backlog.others:
        yield warning(
            f"{backlog.stream} has other groups ({', '.join(backlog.others)}), and entries go when {backlog.group} is done",
            "read push:{s}:offline, MongoDB or the API instead, and XGROUP DESTROY them",
        )


def judge_dead(stream: str, length: int, newest_s: float | None) -> list[Finding]:
    """Return what is to be thought of dead letters.

    Args:
        stream: where they stand.
        length: how many there are.
        newest_s: how long ago the last one died.
    """
    if newest_s is None:
        return [ok(f"{stream}: no dead letter")]
    told = f"{stream}: {counted(length, 'dead letter', 'dead letters')}, the newest {_span(newest_s)} old"
    remedy = "`pushway dead list` says why they died; `pushway dead retry` gives them another try, `dead drop` removes them"
    return [warning(told, remedy) if newest_s < FRESH_S else note(told, remedy)]


async def _backlog(redis: Any, stream: str, group: str) -> Backlog:  # noqa: ANN401 - its types name the replies of every protocol
    now_ms = await _now_ms(redis)
    length = await redis.xlen(stream)
    first = await redis.xrange(stream, count=1)
    try:
        groups = {one["name"].decode() for one in await redis.xinfo_groups(stream)}
    except ResponseError:  # there is no such stream
        groups = set()
    return Backlog(
        stream=stream,
        group=group,
        length=length,
        oldest_s=_age_s(first[0][0], now_ms) if first else None,
        has_group=group in groups,
        others=tuple(sorted(groups - {group})),
    )


async def _dead(redis: Any, keys: Keys) -> tuple[int, float | None]:  # noqa: ANN401 - likewise
    newest = await redis.xrevrange(keys.dead(), count=1)
    return await redis.xlen(keys.dead()), _age_s(newest[0][0], await _now_ms(redis)) if newest else None


async def _now_ms(redis: Any) -> int:  # noqa: ANN401 - likewise
    seconds, microseconds = await redis.time()
    return int(seconds * 1000 + microseconds // 1000)


def _age_s(entry_id: bytes, now_ms: int) -> float:
    return max(0.0, (now_ms - int(entry_id.partition(b"-")[0])) / 1000)


def _entries(number: int) -> str:
    return counted(number, "entry", "entries")


def _span(seconds: float) -> str:
    for unit, length_s in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:,.0f} {unit}"
    return f"{seconds:,.0f} s"
