"""A Redis Cluster: that each slot of ours has a primary, and that none is half moved.

Only the two servers between which a slot is moved key by key know of that, each of its side; so all are asked. A move as one
step (CLUSTER MIGRATESLOTS) is either done or not, and does not show here.

Source: https://redis.io/docs/latest/commands/cluster-nodes/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from router.cluster_redis import ClusterRedis, slot_of
from router.doctor.findings import Finding, counted, error, note, ok
from router.keys import Keys, config_key
from router.redis_client import OUTAGE
from router.settings import Settings

_HALF_MOVED: Final = re.compile(r"\[(\d+)-([<>])-(\w+)\]")
_RANGES_AT: Final = 8
"""Words of a line before the slots: id, address, flags, primary, two times, epoch, link."""

_FIX: Final = "`redis-cli --cluster fix"
_COVERAGE: Final = "cluster-require-full-coverage"


@dataclass(frozen=True, slots=True)
class HalfMoved:
    """A slot that a server is giving to another, or taking from it.

    Attributes:
        slot: which.
        source: id of the server that has had it.
        target: id of the server that is to have it.
    """

    slot: int
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Node:
    """A server of a Cluster, as one of them knows it.

    Attributes:
        id: its id in the Cluster.
        address: `host:port`.
        failed: whether most primaries agree that it is away.
        ranges: first and last slot of each range that it has.
        half_moved: of the server that tells, what it gives and takes; of others nothing is known.
    """

    id: str
    address: str
    failed: bool
    ranges: tuple[tuple[int, int], ...]
    half_moved: tuple[HalfMoved, ...]


async def examine(redis: Redis, settings: Settings) -> list[Finding]:
    """Return what is to be thought of a Cluster; nothing where there is none.

    Raises:
        RedisError, OSError: when nobody knows its primaries.
    """
    if not isinstance(redis, ClusterRedis):
        return []
    views, coverage, away = [], [], None
    for server in await redis.primaries():
        try:
            views.append(await _view(server))
            coverage.append(await _coverage(server))
        except OUTAGE as exc:
            # What has become of it, the others say.
            away = exc
    if not views and away:
        raise away
    return [*judge(views, slots_of(settings)), *judge_coverage(coverage)]


async def _view(server: Any) -> list[Node]:  # noqa: ANN401 - its types name the replies of every protocol
    # As two words: the driver makes something of its own of the reply to "CLUSTER NODES".
    return read_nodes((await server.execute_command("CLUSTER", "NODES")).decode())


async def _coverage(server: Redis) -> str:
    try:
        found = await server.config_get(_COVERAGE)
    except ResponseError:  # not allowed
        return ""
    return str(found.get(_COVERAGE, ""))


def slots_of(settings: Settings) -> dict[int, str]:
    """Return the slots that a system has keys in, each with what there is in it."""
    config = config_key(settings.prefix)
    shards = {slot_of(Keys(settings.prefix, shard).base): f"shard {shard}" for shard in range(settings.shards)}
    return {slot_of(config): config} | shards


def read_nodes(text: str) -> list[Node]:
    """Return the servers that CLUSTER NODES tells of."""
    return [_read_node(line.split()) for line in text.splitlines()]


def _read_node(words: Sequence[str]) -> Node:
    ident, address, flags, *_ = words
    ranges, half_moved = [], []
    for word in words[_RANGES_AT:]:
        if found := _HALF_MOVED.fullmatch(word):
            source, target = (ident, found[3]) if found[2] == ">" else (found[3], ident)
            half_moved.append(HalfMoved(int(found[1]), source, target))
        else:
            first, _, last = word.partition("-")
            ranges.append((int(first), int(last or first)))
    return Node(ident, address.partition("@")[0], "fail" in flags.split(","), tuple(ranges), tuple(half_moved))


def judge(views: Sequence[Sequence[Node]], ours: Mapping[int, str]) -> list[Finding]:
    """Return what is to be thought of the slots of a system.

    Args:
        views: what each server tells that could be asked.
        ours: slots that the system has keys in → what is in them.
    """
    found = [*_judge_half_moved(views, ours), *_judge_owners(views[0] if views else (), ours)]
    return found or [ok(f"{counted(len(ours), 'slot', 'slots')} of ours, each with a primary; none is half moved")]


def _judge_half_moved(views: Sequence[Sequence[Node]], ours: Mapping[int, str]) -> Iterator[Finding]:
    named = {node.id: node.address for view in views for node in view}
    moves = dict.fromkeys(move for view in views for node in view for move in node.half_moved)
    for move in moves:
        if move.slot in ours:
            source, target = (named.get(ident, ident) for ident in (move.source, move.target))
            yield error(
                f"slot {move.slot} ({ours[move.slot]}) is half moved, from {source} to {target}: nothing goes on there",
                f"look again, for it takes as long as its keys take; a move that was left lying is ended by {_FIX} {source}`",
            )


def _judge_owners(nodes: Sequence[Node], ours: Mapping[int, str]) -> Iterator[Finding]:
    for slot, held in sorted(ours.items()):
        owner = next((node for node in nodes if any(first <= slot <= last for first, last in node.ranges)), None)
        if owner is None:
            yield error(
                f"nobody has slot {slot} ({held}): nothing goes on there",
                f"give it to a primary, which {_FIX} HOST:PORT` does",
            )
        elif owner.failed:
            yield error(
                f"{owner.address} has failed, and nobody has taken its slot {slot} ({held}) over: nothing goes on there",
                "start it again, or have a replica take over, which forgets what it has not got: CLUSTER FAILOVER TAKEOVER",
            )


def judge_coverage(values: Sequence[str]) -> list[Finding]:
    """Return what is to be thought of what `cluster-require-full-coverage` is on each primary; "" where it may not be read."""
    if "yes" not in values:
        return []
    told = f"{_COVERAGE} is yes: while one primary is away, the others refuse everything too"
    return [note(told, f"CONFIG SET {_COVERAGE} no on every server, and the same in redis.conf")]
