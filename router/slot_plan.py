"""How slots should lie on the primaries of a Cluster, so that each has as many shards. Pure, but for reading who they are.

All of a shard is in the one slot of its tag `{s}`, and those fall unevenly: with 6 shards on 3 equal ranges of slots, one
primary has three of them and another one. So before the first start the ranges are cut between shards, and in a Cluster that
has data single slots are moved: those with a shard, and no more of them than must.

Source: https://redis.io/docs/latest/commands/cluster-setslot/, https://valkey.io/commands/cluster-migrateslots/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from router.cluster_redis import slot_of
from router.keys import Keys
from router.redis_url import Address
from router.shards import SLOTS
from router.share import dues


@dataclass(frozen=True, slots=True)
class SlotRange:
    """The slots of one primary, from `first` to `last`, and the shards in them."""

    first: int
    last: int
    shards: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """A slot that is to go from one primary to another, with its shard."""

    shard: int
    slot: int
    source: Address
    target: Address


def slot_of_shard(shard: int) -> int:
    """Return the slot of all keys of a shard, under whatever prefix."""
    return slot_of(Keys("", shard).base)


def even_ranges(shards: int, primaries: int) -> list[SlotRange]:
    """Return a range of slots for each primary of a Cluster to be made, with as many shards in each, or one more.

    Args:
        shards: how many there are.
        primaries: likewise; at most as many as shards.
    """
    by_slot = sorted((slot_of_shard(shard), shard) for shard in range(shards))
    cuts = [shards * place // primaries for place in range(primaries + 1)]
    parts = [by_slot[first:last] for first, last in pairwise(cuts)]
    edges = [0, *(_between(by_slot, cut, place, primaries) for place, cut in enumerate(cuts[1:-1], 1)), SLOTS]
    return [
        SlotRange(first, last - 1, tuple(sorted(shard for _, shard in part)))
        for (first, last), part in zip(pairwise(edges), parts, strict=True)
    ]


def _between(by_slot: Sequence[tuple[int, int]], cut: int, place: int, primaries: int) -> int:
    """Return where the range before a cut ends: as near to an equal part of all slots as the shards beside it allow."""
    (least, _), (most, _) = by_slot[cut - 1 : cut + 1]
    return min(max(SLOTS * place // primaries, least + 1), most)


def even_moves(owners: Sequence[Address], primaries: Sequence[Address]) -> list[Move]:
    """Return the fewest moves after which each primary has as many shards, or one more.

    Args:
        owners: the primary of each shard, by number.
        primaries: all there are.
    """
    held = {str(primary): owners.count(primary) for primary in primaries}
    due = dues(held, len(owners))
    missing = [primary for primary in primaries for _ in range(due[str(primary)] - held[str(primary)])]
    return [Move(shard, slot_of_shard(shard), owners[shard], to) for shard, to in zip(_over(owners, due), missing, strict=True)]


def _over(owners: Sequence[Address], due: Mapping[str, int]) -> Iterator[int]:
    """Yield the shards that a primary has beyond its due."""
    kept = dict(due)
    for shard, owner in enumerate(owners):
        kept[str(owner)] -= 1
        if kept[str(owner)] < 0:
            yield shard


def commands_of(move: Move, ids: Mapping[Address, str], *, at_once: bool) -> list[str]:
    """Return what to type in a shell for a move.

    Args:
        move: which.
        ids: of the primaries, in the Cluster.
        at_once: whether the servers move slots by themselves (CLUSTER MIGRATESLOTS, Valkey from 9.0 on).
    """
    source, target, slot = _cli(move.source), _cli(move.target), move.slot
    if at_once:
        return [f"{source} CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {ids[move.target]}"]
    return [
        f"{target} CLUSTER SETSLOT {slot} IMPORTING {ids[move.source]}",
        f"{source} CLUSTER SETSLOT {slot} MIGRATING {ids[move.target]}",
        _move_keys(move),
        f"{target} CLUSTER SETSLOT {slot} NODE {ids[move.target]}",
        f"{source} CLUSTER SETSLOT {slot} NODE {ids[move.target]}",
    ]


def _move_keys(move: Move) -> str:
    source, to = _cli(move.source), f"{move.target.host} {move.target.port}"
    each = f'{source} MIGRATE {to} "" 0 5000 KEYS $keys || break'
    # Keys have neither blanks nor quotes in them, but may have what a shell takes for a pattern.
    return f'( set -f; while keys=$({source} CLUSTER GETKEYSINSLOT {move.slot} 100); [ -n "$keys" ]; do {each}; done )'


def _cli(address: Address) -> str:
    return f"redis-cli -h {address.host} -p {address.port}"
