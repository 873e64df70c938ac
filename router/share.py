"""The rule by which the workers of a role share its shards. Pure.

Everybody who lives is due as many shards as everybody else, or one more where it does not come out even; who holds most gets
those, so that nothing changes hands that need not. Who holds more than its due gives shards back, who holds fewer takes free
ones. All go by the same rule and, but for a moment, see the same, so at most one reaches for a shard; the lease decides where
two do.

What one is due adds up to all the shards. So a free shard always finds somebody who is due one, and once every shard is held by
somebody who lives, nobody holds more than one more than another, and nothing moves until somebody comes or goes. With more
workers than shards some are due none, and stand by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

FREE: Final = ""
"""In the place of a holder: nobody holds the shard."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker is to do.

    Attributes:
        give: shards to give back, which it holds.
        take: shards to take, which are free.
        due: how many it is to hold in the end.
    """

    give: tuple[int, ...]
    take: tuple[int, ...]
    due: int


def dues(held: Mapping[str, int], shards: int) -> dict[str, int]:
    """Return worker → how many shards it is due, for live workers and how many each holds."""
    most_first = sorted(held, key=lambda worker: (-held[worker], worker))
    least, over = divmod(shards, len(most_first))
    return {worker: least + (place < over) for place, worker in enumerate(most_first)}


def share(worker: str, workers: Sequence[str], holders: Sequence[str]) -> Share:
    """Return what a worker is to do now.

    Args:
        worker: whose part is asked for; one of the next.
        workers: all that live.
        holders: who holds each shard, by number; `FREE` where nobody does. One who does not live counts as nobody's.
    """
    held = dict.fromkeys(workers, 0) | {one: n for one, n in Counter(holders).items() if one in workers}
    due = dues(held, len(holders))
    mine = [shard for shard, holder in enumerate(holders) if holder == worker]
    free = [shard for shard, holder in enumerate(holders) if holder == FREE]
    return Share(tuple(mine[due[worker] :]), _taken_by(worker, free, held, due), due[worker])


def _taken_by(worker: str, free: Sequence[int], held: Mapping[str, int], due: Mapping[str, int]) -> tuple[int, ...]:
    """Hand the free shards out, each to whoever lacks most, and return the worker's."""
    lacking = {one: due[one] - held[one] for one in sorted(held)}
    taken = []
    for shard in free:
        needy = max(lacking, key=lacking.__getitem__)
        lacking[needy] -= 1
        if needy == worker:
            taken.append(shard)
    return tuple(taken)
