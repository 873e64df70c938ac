"""Traffic that goes on while something happens to Redis: what is stored must come to whom it is for, whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import anyio

from router.shards import shard_of_id
from tests.e2e.audience import Audience, Producer, Seat, in_order_and_once, numbers
from tests.stack import Stack

QUICK: Final = {
    "redis_timeout_s": 1.0,
    "backoff_max_ms": 250,
    "lease_ms": 2_000,
    "node_ttl_ms": 3_000,
    "probe_quiet_ms": 500,
    "probe_timeout_ms": 1_000,
}
"""Settings of a stack that recovers fast enough for a test."""

_PAUSE_S: Final = 0.01
_PATIENCE_S: Final = 60.0
_LATELY: Final = 50


@dataclass
class Traffic:
    """What goes on.

    Attributes:
        seats: a session of each user.
    """

    audience: Audience
    producer: Producer
    seats: list[Seat] = field(default_factory=list)

    async def flows(self) -> None:
        """Return when each session has had something that was appended from now on.

        Raises:
            AssertionError: telling what was sent and what was heard, when that does not come about.
        """
        first = max(number for sent in self.producer.sent.values() for number in sent) + 1 if self.producer.sent else 0

        def all_have() -> bool:
            return all(any(body["n"] >= first for body in seat.bodies[-_LATELY:]) for seat in self.seats)

        try:
            await self.audience.until(all_have)
        except TimeoutError as exc:
            sent = {user: some[-3:] for user, some in self.producer.sent.items()}
            heard = {seat.user: (seat.nodes, seat.closes, seat.seqs[-3:], numbers(seat)[-3:]) for seat in self.seats}
            raise AssertionError(f"nobody was to be without news from {first} on; sent {sent}, heard {heard}") from exc

    def longest_silence_s(self) -> float:
        """Return the longest time in which a session heard nothing."""
        return max(b - a for seat in self.seats for a, b in zip(seat.came_s, seat.came_s[1:], strict=False))


@asynccontextmanager
async def flowing(stack: Stack, name: str) -> AsyncIterator[Traffic]:
    """Have messages flow within the block; behind it all that was stored must have come, in order and once, on the first try.

    Args:
        stack: the system.
        name: begins the names of its users, two of each shard.
    """
    users, stop = users_of(name, stack.settings.shards), anyio.Event()
    async with Audience(stack) as audience, anyio.create_task_group() as tasks:
        traffic = Traffic(audience, Producer(stack, tuple(users)))
        traffic.seats = [await audience.join(user, n % 2, again=True) for n, user in enumerate(users)]

        async def send() -> None:
            await traffic.producer.send_until(stop, pause_s=_PAUSE_S)

        tasks.start_soon(send)
        await traffic.flows()
        yield traffic
        await traffic.flows()
        stop.set()
        await _all_come(stack, traffic.seats)
        print(f"{name}: longest silence {traffic.longest_silence_s():.2f} s")  # noqa: T201 - a figure for who asks with -s
        tasks.cancel_scope.cancel()
    assert in_order_and_once(traffic.seats)
    assert not any(seat.closes[:-1] for seat in traffic.seats), "a session was closed"


def users_of(name: str, shards: int) -> list[str]:
    """Return the names of two users of each shard, by shard."""
    found: dict[int, list[str]] = {}
    for n in range(50 * shards):
        some = found.setdefault(shard_of_id(f"{name}-{n}", shards), [])
        if len(some) < 2:
            some.append(f"{name}-{n}")
    return [user for shard in sorted(found) for user in found[shard]]


async def _all_come(stack: Stack, seats: Sequence[Seat]) -> None:
    """Return when all that is stored has come."""
    with anyio.fail_after(_PATIENCE_S):
        while True:
            stored = await anyio.to_thread.run_sync(_stored, stack, [seat.user for seat in seats])
            if all(stored[seat.user] <= {*seat.seqs} for seat in seats):
                return
            await anyio.sleep(0.05)


def _stored(stack: Stack, users: Collection[str]) -> dict[str, set[int]]:
    """Return user → the seqs that have been stored for them."""
    found: dict[str, set[int]] = {user: set() for user in users}
    with stack.mongo_client() as mongo:
        inbox = mongo[stack.settings.mongo_database]["inbox"]
        for one in inbox.find({"target": {"$in": [f"user:{user}" for user in users]}}, ["target", "seq"]):
            found[one["target"].removeprefix("user:")].add(int(one["seq"]))
    return found
