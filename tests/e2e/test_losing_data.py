"""Data is lost under traffic: what is accepted reaches who stays and who comes back, in order, and no seq goes backwards.

Accepted means stored in MongoDB. What was only appended may be gone with Redis, as the docs say; never anything from the middle
of what a producer sent before the loss, nor after it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest

from tests.e2e.audience import Audience, Producer, Seat, in_order_and_once, numbers
from tests.stack import Stack
from tests.stopwatch import Stopwatch

pytestmark = pytest.mark.anyio

USERS = ("ann", "bob")
QUICK = {
    "lease_ms": 1_000,
    "node_ttl_ms": 2_000,
    "route_ttl_ms": 3_000,
    "drain_timeout_s": 0.5,
    "redis_timeout_s": 2.0,
}
PAUSE_S = 0.005
SETTLE_TIMEOUT_S = 60.0
SECOND_US = 1_000_000
STORE_AWAY_S = 15.0

BEFORE, MEANWHILE, AFTER = 100, 50, 100

Loss = Callable[[Stack, Producer], Awaitable[None]]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with two edges and short timeouts."""
    with Stack(tmp_path_factory.mktemp("stack"), settings=QUICK) as stack:
        yield stack


async def counters_deleted(stack: Stack, _: Producer) -> None:
    """Delete the seq counters."""
    with stack.redis_client() as redis:
        redis.delete(*(_counter(user) for user in USERS))


async def counters_set_back(stack: Stack, _: Producer) -> None:
    """Have the seq counters say what they said ten seconds ago."""
    with stack.redis_client() as redis:
        for user in USERS:
            for name in ("given", "handed"):
                redis.hincrby(_counter(user), name, -10 * SECOND_US)


async def flushed(stack: Stack, _: Producer) -> None:
    """Delete all that Redis holds."""
    with stack.redis_client() as redis:
        redis.flushall()


async def emptied(stack: Stack, _: Producer) -> None:
    """Start Redis on an empty disk."""
    await anyio.to_thread.run_sync(stack.redis.stop)
    shutil.rmtree(_data(stack))
    await _start_redis(stack)


async def set_back(stack: Stack, producer: Producer) -> None:
    """Start Redis on an older copy of its data."""
    await anyio.to_thread.run_sync(stack.redis.stop)
    older = shutil.copytree(_data(stack), stack.redis.folder / "older")
    await _start_redis(stack)
    stored = _count_stored(stack, producer)
    await _until(lambda: _count_stored(stack, producer) > stored + MEANWHILE)
    stack.redis.kill()
    shutil.rmtree(_data(stack))
    older.rename(_data(stack))
    await _start_redis(stack)


@pytest.mark.parametrize("lose", [counters_deleted, counters_set_back, flushed, emptied, set_back])
async def test_loss(stack: Stack, lose: Loss) -> None:
    """Sessions that stay and sessions that come back get all that is accepted, once, by rising seqs."""
    producer = Producer(stack, USERS)
    async with Audience(stack) as audience:
        stay = [await audience.join(user, edge) for user in USERS for edge in (0, 1)]
        async with Audience(stack) as leaving:
            left = [await leaving.join(user, 0) for user in USERS]
            await producer.send(BEFORE, pause_s=PAUSE_S)
            await leaving.until(lambda: all(len(seat.messages) == BEFORE / len(USERS) for seat in left))
        await _send_around(stack, producer, lose)
        await _all_caught_up(stack, producer, audience, stay)
        back = [await audience.come_back(seat) for seat in left]
        await _all_caught_up(stack, producer, audience, back)

    assert in_order_and_once(audience.seats)
    for seat in audience.seats:
        accepted = _stored(stack, seat.user, producer)
        assert numbers(seat) == accepted == sorted(accepted)
        _hold_what_is_lost_against_promise(accepted, producer.sent[seat.user], lose)
    assert all(seat.closes == [None] for seat in stay)


async def _send_around(stack: Stack, producer: Producer, lose: Loss) -> None:
    over = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(producer.send_until, over, pause_s=PAUSE_S))
        await lose(stack, producer)
        over.set()
    await producer.send(AFTER, pause_s=PAUSE_S)


async def _all_caught_up(stack: Stack, producer: Producer, audience: Audience, seats: list[Seat]) -> None:
    """Return when what was sent last is accepted and these seats have it."""
    await _until(lambda: all(producer.sent[user][-1] in _stored(stack, user, producer) for user in USERS))
    await audience.until(lambda: all(numbers(seat)[-1:] == producer.sent[seat.user][-1:] for seat in seats))


def _hold_what_is_lost_against_promise(accepted: list[int], sent: list[int], lose: Loss) -> None:
    lost = sorted(set(sent) - set(accepted))
    if lose in {counters_deleted, counters_set_back}:
        assert lost == []
    first_after = sent[-AFTER // len(USERS)]
    assert [number for number in lost if number < BEFORE or number >= first_after] == []


async def test_store_is_away(stack: Stack) -> None:
    """MongoDB is killed for long: nothing is told meanwhile, all of it comes in order, and then it is as quick as before."""
    producer = Producer(stack, USERS)
    async with Audience(stack) as audience:
        for user in USERS:
            await audience.join(user, 0)
            await audience.join(user, 1)
        await producer.send(BEFORE, pause_s=PAUSE_S)
        quick_s = await _latency_s(audience, producer)
        stack.store.kill()
        told = sum(len(seat.messages) for seat in audience.seats)
        over = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(producer.send_until, over, pause_s=PAUSE_S))
            await anyio.sleep(STORE_AWAY_S)  # the time itself is the matter here
            assert sum(len(seat.messages) for seat in audience.seats) == told
            stack.store.launch()
            over.set()
        await anyio.to_thread.run_sync(stack.store.wait_ready)
        since_s = time.monotonic()
        await _all_caught_up(stack, producer, audience, audience.seats)
        caught_up_s = time.monotonic() - since_s
        again_s = await _latency_s(audience, producer)
    # For whoever runs it with -s.
    figures = f"{quick_s * 1000:.0f} ms before, {again_s * 1000:.0f} ms after; caught up in {caught_up_s:.1f} s"
    print(figures)  # noqa: T201
    assert in_order_and_once(audience.seats)
    for seat in audience.seats:
        assert numbers(seat) == producer.sent[seat.user] == _stored(stack, seat.user, producer)
        assert seat.closes == [None]
    assert again_s < 1.0


async def _latency_s(audience: Audience, producer: Producer) -> float:
    """Return how long the slowest of some single messages took to all their sessions."""
    slowest_s = 0.0
    for _ in range(10):
        watch = Stopwatch()
        await producer.send(len(USERS))
        await audience.until(lambda: all(numbers(seat)[-1:] == producer.sent[seat.user][-1:] for seat in audience.seats))
        slowest_s = max(slowest_s, watch.own_s())
    return slowest_s


def _counter(user: str) -> str:
    return "push:{0}:seq:user:" + user


def _data(stack: Stack) -> Path:
    return stack.redis.folder / "appendonlydir"


async def _start_redis(stack: Stack) -> None:
    stack.redis.launch()  # here and not in a thread: a child ends with the thread that started it
    await anyio.to_thread.run_sync(stack.redis.wait_ready)


def _stored(stack: Stack, user: str, producer: Producer) -> list[int]:
    """Return the numbers of this producer that are stored for a user, by seq."""
    with stack.mongo_client() as mongo:
        found = mongo.pushway.inbox.find({"target": f"user:{user}"}).sort("seq", 1)
        ids = [document["id"].partition("-") for document in found]
    return [int(number) for name, _, number in ids if name == producer.name]


def _count_stored(stack: Stack, producer: Producer) -> int:
    return sum(len(_stored(stack, user, producer)) for user in USERS)


async def _until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(SETTLE_TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 - it lies in other processes
            await anyio.sleep(0.05)
