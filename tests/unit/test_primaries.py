"""router.primaries: who is asked, and when."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest
from redis.exceptions import ClusterDownError
from redis.exceptions import ConnectionError as RedisConnectionError

from router.primaries import ClusterPrimaries, SentinelPrimary, Slots, Told
from router.redis_url import Address

pytestmark = pytest.mark.anyio

A, B, C = (Address(name, 1) for name in "abc")
HALVES = {(0, 99): A, (100, 199): B}


class Nodes:
    """What nodes say, and who was asked."""

    def __init__(self, slots: Slots = HALVES) -> None:
        self.slots = slots
        self.asked: list[Address] = []
        self.silent: Sequence[Address] = ()
        self.primaries = ClusterPrimaries([A], self.ask)

    async def ask(self, address: Address) -> Slots:
        """Answer, or not."""
        self.asked.append(address)
        await anyio.lowlevel.checkpoint()
        if address in self.silent:
            raise RedisConnectionError
        return self.slots


async def test_one_answer_is_for_all_slots() -> None:
    """However many ask for it at once."""
    nodes = Nodes()
    async with anyio.create_task_group() as tasks:
        for slot in range(0, 200, 50):
            tasks.start_soon(nodes.primaries.of, slot)
    assert [await nodes.primaries.of(slot) for slot in (0, 99, 100, 199)] == [A, A, B, B]
    assert await nodes.primaries.all() == [A, B]
    assert nodes.asked == [A]


async def test_doubt_is_about_one_server() -> None:
    """Who needs another one does not wait; who needs it asks, somebody else first."""
    nodes = Nodes()
    await nodes.primaries.of(0)
    nodes.primaries.doubt(A)
    assert await nodes.primaries.of(150) == B
    assert nodes.asked == [A]
    nodes.slots = {(0, 99): C, (100, 199): B}
    assert await nodes.primaries.of(0) == C
    assert nodes.asked == [A, B]


async def test_an_answer_of_yesterday_is_asked_for_again() -> None:
    """Once it is in doubt again: a failover takes its time."""
    nodes = Nodes()
    for _ in range(3):
        assert await nodes.primaries.of(0) == A
        nodes.primaries.doubt(A)
    assert len(nodes.asked) == 3


async def test_who_is_silent_is_passed_over() -> None:
    """And asked last the next time."""
    nodes = Nodes()
    await nodes.primaries.of(0)
    nodes.primaries.doubt(A)
    nodes.silent = [B]
    assert await nodes.primaries.of(0) == A
    nodes.primaries.doubt(B)
    nodes.asked.clear()
    assert await nodes.primaries.of(100) == B
    assert nodes.asked == [A]


async def test_nobody_answers() -> None:
    """What the last said is raised, and the next one asks again."""
    nodes = Nodes()
    nodes.silent = [A]
    for _ in range(2):
        with pytest.raises(RedisConnectionError):
            await nodes.primaries.of(0)
    assert nodes.asked == [A, A]


async def test_a_slot_that_nobody_has() -> None:
    """It is an outage of that slot."""
    with pytest.raises(ClusterDownError):
        await Nodes({(1, 99): A}).primaries.of(0)


async def test_moved_is_believed() -> None:
    """It comes from who had the slot; who waits for it is told."""
    nodes = Nodes()
    await nodes.primaries.of(0)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(nodes.primaries.left, 7, A)
            await anyio.lowlevel.checkpoint()
            nodes.primaries.moved(7, B)
    assert [await nodes.primaries.of(slot) for slot in (6, 7)] == [A, B]
    assert nodes.asked == [A]


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now_s


async def test_sentinels_are_asked_every_second() -> None:
    """And when there is doubt. Who has not heard of the last failover is not believed; who does not answer changes nothing."""
    told: list[Told | Exception] = [Told(A, 1), Told(B, 2), Told(A, 1), RedisConnectionError(), Told(C, 3)]

    async def ask() -> Told:
        answer = told.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    clock = Clock()
    primary = SentinelPrimary(ask, clock)
    found = []
    for clock.now_s in (0.0, 0.9, 2.0, 3.1, 4.2):
        found.append(await primary.of(0))
    assert found == [A, A, B, B, B]
    primary.doubt(B)
    assert await primary.of(16383) == C
    assert not told
