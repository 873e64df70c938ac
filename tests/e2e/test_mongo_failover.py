"""MongoDB's primary steps down, or is lost, under traffic: what was accepted goes on, in order, once, and soon."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import anyio
import pytest

from tests.e2e.audience import Audience, Producer, Seat, in_order_and_once, numbers
from tests.failures import CONCERN_TIMEOUT, CUT_AFTER, CUT_BEFORE, STEPPED_DOWN
from tests.replica_set import ReplicaSet
from tests.servers import Store
from tests.stack import Stack

pytestmark = pytest.mark.anyio

USERS = ("ann", "bob", "cleo", "dan")
QUICK = {"lease_ms": 1_000, "node_ttl_ms": 2_000, "drain_timeout_s": 0.5, "mongo_timeout_s": 2.0, "redis_timeout_s": 2.0}
PAUSE_S = 0.005
ELECTION_S = 0.8
RECOVERY_S = 4.0
AFTER = 50


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, ReplicaSet]]:
    """Yield the whole system, whose services know of MongoDB what the set tells them."""
    folder = tmp_path_factory.mktemp("stack")
    with ExitStack() as opened:
        store = Store(folder / "store")
        members = opened.enter_context(ReplicaSet(store.port))
        stack = Stack(folder, store=store, settings=QUICK)
        for name in ("auth", "collect", "edge-1", "edge-2"):
            stack.set(name, mongo_url=members.url)
        yield opened.enter_context(stack), members


async def _has_all(audience: Audience, producer: Producer) -> None:
    def is_through(seat: Seat) -> bool:
        return bool(seat.messages) and numbers(seat)[-1] == producer.sent[seat.user][-1]

    await audience.until(lambda: all(map(is_through, audience.seats)))


def _assert_all_got(stack: Stack, audience: Audience, producer: Producer) -> None:
    assert in_order_and_once(audience.seats)
    for seat in audience.seats:
        assert numbers(seat) == producer.sent[seat.user]
    with stack.mongo_client() as mongo:
        for user in USERS:
            found = mongo.pushway.inbox.find({"target": f"user:{user}", "id": re.compile(f"^{producer.name}-")}).sort("seq", 1)
            assert [int(document["id"].partition("-")[2]) for document in found] == producer.sent[user]


async def _is_told(stack: Stack) -> None:
    """Assert what an operator reads: each outage of collect once when it begins and once when it ends, in words."""

    def lines(event: str) -> list[str]:
        return [line for line in Path(stack["collect"].log).read_text(encoding="utf-8").splitlines() if event in line]

    with anyio.fail_after(RECOVERY_S):
        while len(lines("outage_began")) != len(lines("outage_ended")):  # noqa: ASYNC110 - the services'
            await anyio.sleep(0.02)
    # An election that is over within the driver's own patience is no outage at all.
    assert not [line for line in lines("outage_began") if "full error" in line or "Topology Description" in line]
    assert not lines("Traceback")


def _after(seats: list[Seat], since_s: float) -> float:
    """Return how long after that moment the first message came."""
    return min(came_s for seat in seats for came_s in seat.came_s if came_s > since_s) - since_s


@pytest.mark.parametrize("how", ["stepping-down", "lost"])
async def test_failover(system: tuple[Stack, ReplicaSet], how: str) -> None:
    """Twice there and back: every session has every message once and in order, within seconds of each new primary."""
    stack, members = system
    fail_over: Callable[[float], float] = members.step_down if how == "stepping-down" else members.crash
    elected_s: list[float] = []
    async with Audience(stack) as audience:
        for user in USERS:
            await audience.join(user, 0)
            # By its name, so that edges write cursors all along.
            await audience.join(user, 1, again=True)
        producer, over = Producer(stack, USERS), anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(producer.send_until, over, pause_s=PAUSE_S))
            for _ in range(2):
                await audience.until(lambda: all(seat.messages for seat in audience.seats))
                elected_s.append(await anyio.to_thread.run_sync(fail_over, ELECTION_S))
                await audience.until(lambda: any(seat.came_s[-1] > elected_s[-1] for seat in audience.seats))
            over.set()
        await producer.send(AFTER)
        await _has_all(audience, producer)
        _assert_all_got(stack, audience, producer)
        took_s = [_after(audience.seats, since_s) for since_s in elected_s]
    assert max(took_s) < RECOVERY_S, took_s
    await _is_told(stack)
    assert all(seat.closes == [None] for seat in audience.seats)


async def test_writes_that_fail_under_traffic(system: tuple[Stack, ReplicaSet]) -> None:
    """Whatever a write meets with, before it is done or behind: everything comes, once and in order."""
    stack, members = system
    async with Audience(stack) as audience:
        for user in USERS:
            await audience.join(user, 0)
        producer = Producer(stack, USERS)
        for failure in (CUT_AFTER, CONCERN_TIMEOUT, CUT_BEFORE, STEPPED_DOWN):
            members.fail("insert", failure, 3)
            await producer.send(20, pause_s=PAUSE_S)
        await producer.send(AFTER)
        await _has_all(audience, producer)
        _assert_all_got(stack, audience, producer)
    await _is_told(stack)
