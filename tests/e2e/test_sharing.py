"""Workers come, go, are killed and freeze under traffic: shards are shared evenly again, and no target's order breaks."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

import anyio
import pytest

from router.keys import Keys
from router.shards import shard_of_id
from router.workers import ROLES
from tests.chaos.history import Got
from tests.chaos.scene import Scene, until
from tests.e2e.command_line import run
from tests.servers import Process
from tests.stack import Stack

pytestmark = pytest.mark.anyio

SHARDS: Final = 6
LEASE_MS: Final = 1_000
EVEN_TIMEOUT_S: Final = 30.0
WELL_TIMEOUT_S: Final = 30.0
PAUSE_S: Final = 0.005
QUICK: Final = {
    "shards": SHARDS,
    "lease_ms": LEASE_MS,
    "wait_ms": 200,
    "redis_timeout_s": 2.0,
    "backoff_max_ms": 250,
    "batch_max": 64,
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with an edge and six shards."""
    with Stack(tmp_path_factory.mktemp("stack"), edges=1, settings=QUICK) as stack:
        yield stack


class Shares:
    """Who holds how many shards of a role."""

    def __init__(self, stack: Stack) -> None:
        self._redis = stack.redis_client()
        self._base = stack.settings.prefix

    def of(self, role: str) -> list[int]:
        """Return how many shards each holder has, the most first; a shard without one is not in it."""
        leases = [self._redis.get(Keys(self._base, shard).lease(role)) for shard in range(SHARDS)]
        holders = [str(lease).partition(" ")[0] for lease in leases if lease]
        return sorted((holders.count(one) for one in set(holders)), reverse=True)

    async def become(self, *expected: int) -> None:
        """Return when both roles are shared like this."""
        await until(lambda: all(self.of(role) == list(expected) for role in ROLES), EVEN_TIMEOUT_S)


@asynccontextmanager
async def under_traffic(stack: Stack, name: str) -> AsyncIterator[None]:
    """Append to two users of each shard within the block; behind it, the checker finds nothing wrong."""
    async with Scene(stack, name) as scene:
        users = _users(scene.user)
        await scene.join(*users, kinds=("raw",))
        over, ended = anyio.Event(), anyio.Event()

        async def append() -> None:
            producer = scene.producer()
            while not over.is_set():
                for user in users:
                    await producer.append(scene.redis, [user])
                    await anyio.sleep(PAUSE_S)
            ended.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(append)
            await until(lambda: len(list(scene.history.of(Got))) > len(users), WELL_TIMEOUT_S)
            yield
            over.set()
            await ended.wait()
        verdict = await scene.verdict(WELL_TIMEOUT_S)
        assert verdict.green, verdict.findings[:5]


def _users(user: Callable[[int], str]) -> list[str]:
    found: dict[int, list[str]] = {}
    for number in range(200):
        some = found.setdefault(shard_of_id(user(number), SHARDS), [])
        if len(some) < 2:
            some.append(user(number))
    return [one for shard in sorted(found) for one in found[shard]]


def _pair(stack: Stack, number: int) -> list[Process]:
    return [stack.another(role, f"{role}-{number}") for role in ROLES]


async def _start(processes: list[Process]) -> None:
    for process in processes:
        process.launch()  # here and not in a thread: a child ends with the thread that started it
    for process in processes:
        await anyio.to_thread.run_sync(process.wait_ready)


async def test_workers_come_and_go(stack: Stack) -> None:
    """A second and a third take their part, behind a batch; who ends gives back, and at no time does order break."""
    shares = Shares(stack)
    async with under_traffic(stack, "come"):
        await shares.become(6)
        second, third = _pair(stack, 2), _pair(stack, 3)
        await _start(second)
        await shares.become(3, 3)
        await _start(third)
        await shares.become(2, 2, 2)
        for process in second:
            await anyio.to_thread.run_sync(process.stop)
        await shares.become(3, 3)
        for process in third:
            await anyio.to_thread.run_sync(process.stop)
        await shares.become(6)
    for role in ROLES:
        assert "lease_lost" not in stack[role].log_tail(1_000_000)
    print(f"a shard that changed hands stood still for {_gaps_ms(stack)} ms")  # noqa: T201 - a figure for who asks with -s


async def test_workers_die_and_freeze(stack: Stack) -> None:
    """The shards of the dead and the frozen go to the others; who wakes has lost its own, and gets its part anew."""
    shares = Shares(stack)
    async with under_traffic(stack, "die"):
        fourth = _pair(stack, 4)
        await _start(fourth)
        await shares.become(3, 3)
        for process in fourth:
            process.kill()
        await shares.become(6)
        await _start(fourth)
        await shares.become(3, 3)
        for process in fourth:
            process.pause()
        await shares.become(6)
        for process in fourth:
            process.resume()
        await shares.become(3, 3)
        for process in fourth:
            await anyio.to_thread.run_sync(process.stop)
        await shares.become(6)


def test_people_see_who_works_where(stack: Stack) -> None:
    """`pushway shards` says it of each shard, for people and for programs."""
    with stack.redis_client() as redis:
        owners = [str(redis.get(Keys("push", shard).lease("collect")).decode()).partition(" ")[0] for shard in range(SHARDS)]
    told = json.loads(run(stack, "shards", "--json").stdout)
    assert [(one["shard"], one["collect"]) for one in told] == list(enumerate(owners))
    assert told[0]["primary"] is None
    assert set(told[0]["in"]) == {"entries", "pending", "oldest_s"}
    titles, *rows = run(stack, "shards").stdout.splitlines()
    assert titles.split()[:5] == ["SHARD", "SLOT", "PRIMARY", "COLLECT", "DISPATCH"]
    assert [row.split()[3] for row in rows] == owners
    assert "is for a Redis Cluster" in run(stack, "shards", "--plan").stderr
    ranges = run(stack, "shards", "--plan", "--primaries", "3").stdout
    assert "CLUSTER ADDSLOTSRANGE 0 5649    # shards 2, 3" in ranges
    assert "at most 6" in run(stack, "shards", "--plan", "--primaries", "7").stderr


_EVENT: Final = re.compile(r"^(\S+) \[info +\] (lease_given_back|lease_taken) .*key=(\S+)", re.MULTILINE)


def _gaps_ms(stack: Stack) -> list[int]:
    """Return how long each shard that was given back belonged to nobody, the longest last."""
    logs = [process.log.read_text(encoding="utf-8") for process in stack.processes.values() if process.log.exists()]
    gaps_ms, given = [], {}
    for text, event, key in sorted(found for log in logs for found in _EVENT.findall(log)):
        at = datetime.fromisoformat(text)
        if event == "lease_given_back":
            given[key] = at
        elif key in given:
            gaps_ms.append(round((at - given.pop(key)).total_seconds() * 1000))
    return sorted(gaps_ms)
