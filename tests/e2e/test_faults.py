"""Any one process dies, is restarted, or freezes under traffic: what was accepted goes on, in order, once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError
from websockets.asyncio.client import connect

from edge.client import SUBPROTOCOL
from tests.e2e.audience import Audience, Producer, Seat, in_order_and_once, numbers
from tests.servers import Process, wait_until
from tests.stack import Stack
from tests.stopwatch import Stopwatch

pytestmark = pytest.mark.anyio

USERS = ("ann", "bob", "cleo", "dan")
LEASE_MS = 1_000
QUICK = {"lease_ms": LEASE_MS, "node_ttl_ms": 2_000, "drain_timeout_s": 0.5, "mongo_timeout_s": 2.0, "redis_timeout_s": 2.0}
PAUSE_S = 0.003
POLL_S = 0.02
BEFORE, AFTER = 100, 200
WAITING = 12
STOP_S = 8.0
LEASE = "push:{0}:lease:collect"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with two edges and short timeouts."""
    with Stack(tmp_path_factory.mktemp("stack"), settings=QUICK) as stack:
        yield stack


Fault = Callable[[Process], Awaitable[None]]


async def calmly(process: Process) -> None:
    """Restart as an administrator would."""
    await anyio.to_thread.run_sync(process.stop)
    await start(process)


async def hard(process: Process) -> None:
    """Restart after kill -9."""
    process.kill()
    await start(process)


async def start(process: Process) -> None:
    """Start and wait until it answers, while the test goes on."""
    process.launch()  # here and not in a thread: a child ends with the thread that started it
    await anyio.to_thread.run_sync(process.wait_ready)


async def traffic_around(stack: Stack, audience: Audience, name: str, fault: Fault) -> Producer:
    """Send before, while and after a fault is done to a process; return when each session has the last message."""
    producer = Producer(stack, USERS)
    await producer.send(BEFORE, pause_s=PAUSE_S)
    over = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(producer.send_until, over, pause_s=PAUSE_S))
        await fault(stack.processes[name])
        over.set()
    await producer.send(AFTER, pause_s=PAUSE_S)
    await audience.until(lambda: all(_has_last(seat, producer) for seat in audience.seats))
    return producer


def _has_last(seat: Seat, producer: Producer) -> bool:
    return bool(seat.messages) and numbers(seat)[-1] == producer.sent[seat.user][-1]


def stored_numbers(stack: Stack, user: str, producer: Producer) -> list[int]:
    """Return the numbers stored for a user, by seq, of this producer's run."""
    with stack.mongo_client() as mongo:
        found = mongo.pushway.inbox.find({"target": f"user:{user}"}).sort("seq", 1)
        own = [document["id"].partition("-") for document in found]
    return [int(number) for name, _, number in own if name == producer.name]


@pytest.mark.parametrize("restart", [calmly, hard])
@pytest.mark.parametrize("name", ["collect", "dispatch", "auth", "store"])
async def test_behind_the_edge(stack: Stack, name: str, restart: Fault) -> None:
    """Whoever dies behind the edges, every session gets every message, once and in order."""
    async with Audience(stack) as audience:
        for user in USERS:
            await audience.join(user, 0)
            await audience.join(user, 1)
        producer = await traffic_around(stack, audience, name, restart)

    assert in_order_and_once(audience.seats)
    for seat in audience.seats:
        assert numbers(seat) == producer.sent[seat.user]
        assert seat.closes == [None]


@pytest.mark.parametrize("restart", [calmly, hard])
async def test_edge(stack: Stack, restart: Fault) -> None:
    """An edge dies: sessions on the other notice nothing; its own come back to its successor and miss nothing either."""
    async with Audience(stack) as audience:
        stay = [await audience.join(user, 0) for user in USERS]
        move = [await audience.join(user, 1, again=True) for user in USERS]
        producer = await traffic_around(stack, audience, "edge-2", restart)

    assert in_order_and_once(audience.seats)
    assert all(numbers(seat) == producer.sent[seat.user] for seat in audience.seats)
    assert all(seat.closes == [None] for seat in stay)
    for seat in move:
        assert len(set(seat.nodes)) == 2
        assert seat.closes[0] == (4000 if restart is calmly else 1006)


@pytest.mark.parametrize("restart", [calmly, hard])
async def test_redis(stack: Stack, restart: Fault) -> None:
    """Redis dies: no socket is dropped, everything is stored once in order, and every session gets all of it."""
    async with Audience(stack) as audience:
        for user in USERS:
            await audience.join(user, 0)
            await audience.join(user, 1)
        producer = await traffic_around(stack, audience, "redis", restart)

    assert in_order_and_once(audience.seats)
    for seat in audience.seats:
        assert numbers(seat) == producer.sent[seat.user]
        assert seat.closes == [None]
    for user in USERS:
        assert stored_numbers(stack, user, producer) == producer.sent[user]


async def test_stopping_without_a_store(stack: Stack) -> None:
    """MongoDB is away, and many wait for it: who is told to stop does so in its own time, and without an error."""
    users = tuple(f"new-{number}" for number in range(WAITING))
    async with AsyncExitStack() as sockets:
        audience = await sockets.enter_async_context(Audience(stack))
        seat = await audience.join("ann", 0)
        # Whoever has a head in Redis has only the device's cursor looked up in MongoDB, several at once.
        await Producer(stack, (*users, "ann")).send(WAITING + 1)
        await audience.until(lambda: bool(seat.messages))
        stack.store.kill()
        for user in users:
            headers = {"Authorization": f"Bearer {await anyio.to_thread.run_sync(stack.token, user)}"}
            url = f"{stack.edge_urls[1]}?device=new"
            await sockets.enter_async_context(connect(url, additional_headers=headers, subprotocols=[SUBPROTOCOL], proxy=None))
        names = ["edge-2", "collect"]
        watch = Stopwatch()
        statuses = [await anyio.to_thread.run_sync(stack[name].stop) for name in names]
        took_s = watch.own_s()
        for process in (stack.store, *(stack[name] for name in names)):
            await start(process)
    assert statuses == [0, 0]
    assert took_s < STOP_S


def test_lag_grows_while_nothing_moves(stack: Stack) -> None:
    """What has copies of collect added (deploy/kubernetes): without MongoDB the oldest entry ages, with it again none waits."""
    entries, oldest_s = (f'pushway_stream_{name}{{shard="0",stream="in"}}' for name in ("entries", "oldest_seconds"))
    collect = stack["collect"]
    stack.store.kill()
    try:
        with stack.redis_client() as redis:
            redis.xadd("push:{0}:in", {"to": "user:late", "body": "1"})
        wait_until(lambda: (collect.figure(oldest_s) or 0.0) > 1.0, "the entry has aged")
        assert collect.metric(entries) == 1
    finally:
        stack.store.start()
    wait_until(lambda: collect.figure(entries) == 0, "it was taken")
    assert collect.metric(oldest_s) == 0


async def test_paused_store(stack: Stack) -> None:
    """MongoDB freezes: nothing is acknowledged or told meanwhile, and all of it comes through afterwards."""

    def outages() -> int:
        return stack["collect"].log_tail().count("outage_began")

    before = outages()
    async with Audience(stack) as audience:
        seat = await audience.join("ann", 0)
        producer = Producer(stack, ("ann",))
        await producer.send(10)
        await audience.until(lambda: len(seat.messages) == 10)
        with stack.redis_client() as redis:
            stack.store.pause()
            await producer.send(10)
            await until(lambda: outages() > before)
            assert redis.xlen("push:{0}:in") == 10
            assert len(seat.messages) == 10
            stack.store.resume()
        await audience.until(lambda: len(seat.messages) == 20)
    assert numbers(seat) == producer.sent["ann"]
    assert outages() == before + 1


async def test_paused_owner_is_fenced(tmp_path: Path) -> None:
    """An owner that wakes after its lease has gone changes nothing: its successor's work stands, once and in order."""
    with Stack(tmp_path, edges=1, settings=QUICK) as stack, standby(stack) as second:
        async with Audience(stack) as audience:
            seat = await audience.join("ann", 0)
            producer = Producer(stack, ("ann",))
            await producer.send(50)
            async with anyio.create_task_group() as tasks:
                over = anyio.Event()
                tasks.start_soon(partial(producer.send_until, over, pause_s=PAUSE_S))
                with stack.redis_client() as redis:
                    first = redis.get(LEASE)
                    stack["collect"].pause()
                    await until(lambda: redis.get(LEASE) not in {first, None})
                    stack["collect"].resume()
                    await until(lambda: "lease_lost" in stack["collect"].log_tail())
                over.set()
            await audience.until(lambda: len(seat.messages) >= len(producer.sent["ann"]))
        assert numbers(seat) == producer.sent["ann"]
        assert in_order_and_once([seat])
        assert "lease_taken" in second.log_tail()


@contextmanager
def standby(stack: Stack) -> Iterator[Process]:
    """Run a second collect, which finds the lease taken."""
    second = stack.another("collect", "collect-2")
    second.start()
    try:
        yield second
    finally:
        second.kill()


@pytest.mark.parametrize("kind", ["valkey", "redis-server"])
async def test_full_redis(tmp_path: Path, kind: str) -> None:
    """A full Redis refuses producers, is emptied by the services all the same, and then takes messages again."""
    with Stack(tmp_path, edges=1, redis=kind, settings=QUICK) as stack, stack.redis_client() as redis:  # type: ignore[arg-type]
        async with Audience(stack) as audience:
            seat = await audience.join("ann", 0)
            stack["collect"].pause()
            sent = fill(redis)
            stack["collect"].resume()
            await audience.until(lambda: len(seat.messages) >= sent)
            # The buffers of connections count as well, and Redis takes its time to give those back that were large.
            await until(lambda: taken(redis, "after"))
            await audience.until(lambda: len(seat.messages) > sent)
    assert in_order_and_once([seat])
    assert [message["id"] for message in seat.messages[:sent]] == [f"full-{n}" for n in range(sent)]


def fill(redis: Redis) -> int:
    """Append to `in` until Redis refuses for want of memory; return how many it took."""
    used: Any = redis.info("memory")
    redis.config_set("maxmemory", used["used_memory"] + 4 * 1024 * 1024)
    body = '"' + "x" * 8_192 + '"'
    for n in range(100_000):
        try:
            redis.xadd("push:{0}:in", {"to": "user:ann", "body": body, "id": f"full-{n}"})
        except OutOfMemoryError:
            return n
    raise AssertionError("Redis never filled up")


def taken(redis: Redis, text: str) -> bool:
    """Append a message for ann; return whether there was memory for it."""
    try:
        redis.xadd("push:{0}:in", {"to": "user:ann", "text": text})
    except OutOfMemoryError:
        return False
    return True


async def until(condition: Callable[[], Any], timeout_s: float = 60.0) -> None:
    """Return when the condition is true.

    Raises:
        TimeoutError: when it does not become true.
    """
    with anyio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110 - it lies in other processes
            await anyio.sleep(POLL_S)
