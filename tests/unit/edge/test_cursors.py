"""edge.cursors: looked up in batches, written behind, and what happens when a server is away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any

import anyio
import pytest
from pymongo.errors import AutoReconnect
from redis.exceptions import ConnectionError as RedisConnectionError

from edge.cursors import BATCH_MAX, CHUNK_MAX, READERS, DeviceCursors, Waiter
from router.cursors import CursorKey
from router.ops import Health
from router.outage import Outages
from router.settings import Settings

pytestmark = pytest.mark.anyio

PHONE = CursorKey("alice", "phone", "user:alice")
TABLET = CursorKey("alice", "tablet", "user:alice")
Seqs = dict[CursorKey, int]


class Server:
    """MongoDB's cursors, or Redis' copy of them."""

    def __init__(self, away: Exception) -> None:
        self.seqs: Seqs = {}
        self.calls: list[tuple[str, int]] = []
        self.is_away = False
        self.hangs = False
        self._away = away

    async def find(self, keys: Collection[CursorKey]) -> Seqs:
        """Return what there is."""
        await self._called("find", keys)
        return {key: self.seqs[key] for key in keys if key in self.seqs}

    async def begin(self, seqs: Mapping[CursorKey, int]) -> Seqs:
        """Return what stands."""
        await self._called("begin", seqs)
        return {key: self.seqs.setdefault(key, seq) for key, seq in seqs.items()}

    async def advance(self, seqs: Mapping[CursorKey, int]) -> None:
        """Move forward."""
        await self._called("advance", seqs)
        self.seqs.update({key: max(seq, self.seqs.get(key, 0)) for key, seq in seqs.items()})

    async def _called(self, name: str, keys: Collection[CursorKey]) -> None:
        self.calls.append((name, len(keys)))
        while self.hangs:  # noqa: ASYNC110 - until the test says otherwise
            await anyio.sleep(0.001)
        await anyio.lowlevel.checkpoint()
        if self.is_away:
            raise self._away


class Stand:
    """The cursors of an edge, between two servers that are played."""

    def __init__(self) -> None:
        self.mongo = Server(AutoReconnect("away"))
        self.redis = Server(RedisConnectionError("away"))
        self.told: list[int | None] = []
        settings = Settings(cursor_flush_s=0.01, backoff_min_ms=1, backoff_max_ms=2, redis_timeout_s=1.5)
        mongo: Any = self.mongo
        redis: Any = self.redis
        self.cursors = DeviceCursors(mongo, redis, settings, Outages(Health(), settings))

    def asks(self, key: CursorKey, begin_at: int = 50) -> Waiter:
        """Ask for a cursor, and return who is told."""

        def waiter(seqs: Mapping[CursorKey, int] | None) -> None:
            self.told.append(None if seqs is None else seqs[key])

        self.cursors.find({key: begin_at}, waiter)
        return waiter

    async def answers(self, count: int = 1) -> list[int | None]:
        """Return what was told, once it is so many."""
        await until(lambda: len(self.told) >= count)
        told, self.told = self.told, []
        return told


async def until(holds: Callable[[], object]) -> None:
    """Return when the condition holds."""
    with anyio.fail_after(60):
        while not holds():  # noqa: ASYNC110 - it lies in another task
            await anyio.sleep(0.001)


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    """Yield cursors that run."""
    stand = Stand()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stand.cursors.run)
        yield stand
        tasks.cancel_scope.cancel()


async def test_the_copy_is_enough(stand: Stand) -> None:
    """MongoDB is not asked, nor written to."""
    stand.redis.seqs[PHONE] = 7
    stand.asks(PHONE)
    assert await stand.answers() == [7]
    assert stand.mongo.calls == []


async def test_what_redis_has_not_is_read_from_mongodb(stand: Stand) -> None:
    """That says that the device was seen, and gives Redis its copy, both a little later."""
    stand.mongo.seqs[PHONE] = 7
    stand.asks(PHONE)
    assert await stand.answers() == [7]
    await until(lambda: stand.redis.seqs == {PHONE: 7})
    assert stand.mongo.calls == [("find", 1), ("advance", 1)]


async def test_a_new_device_is_durable_before_it_is_told(stand: Stand) -> None:
    """It begins where its session says, and Redis gets its copy."""
    stand.asks(PHONE, 50)
    assert await stand.answers() == [50]
    assert stand.mongo.seqs == {PHONE: 50}
    await until(lambda: stand.redis.seqs == {PHONE: 50})


async def test_what_is_not_written_yet_counts(stand: Stand) -> None:
    """A device that comes back to the same edge goes on where it stopped, and where it is new all the same it is durable."""
    stand.mongo.hangs = True
    stand.redis.seqs[PHONE] = 7
    stand.cursors.note(PHONE, 9)
    stand.asks(PHONE)
    assert await stand.answers() == [9]
    stand.cursors.note(TABLET, 8)
    stand.asks(TABLET)
    stand.mongo.hangs = False
    assert await stand.answers() == [8]
    assert stand.mongo.seqs[TABLET] == 8


async def test_many_at_once_are_few_look_ups(stand: Stand) -> None:
    """Whoever comes while some are looked up makes up the next; never more at once than allowed."""
    stand.mongo.hangs = True
    keys = [CursorKey(f"u{n}", "phone", f"user:u{n}") for n in range(2_000)]
    for key in keys:
        stand.asks(key)
    await until(lambda: len(stand.mongo.calls) == READERS)
    stand.mongo.hangs = False
    assert await stand.answers(2_000) == [50] * 2_000
    assert sum(1 for name, _ in stand.mongo.calls if name == "begin") == -(-2_000 // BATCH_MAX)


async def test_redis_away(stand: Stand) -> None:
    """MongoDB answers, whether Redis refuses or does not answer at all; acks go there alone."""
    stand.mongo.seqs[PHONE] = 7
    stand.redis.is_away = True
    stand.asks(PHONE)
    assert await stand.answers() == [7]
    stand.cursors.note(PHONE, 8)
    await until(lambda: stand.mongo.seqs[PHONE] == 8)
    stand.redis.hangs = True
    stand.asks(PHONE)
    assert await stand.answers() == [8]


@pytest.mark.parametrize("how", ["is_away", "hangs"])
async def test_mongodb_away(stand: Stand, how: str) -> None:
    """Who is in the copy is told, who is not is told that nobody knows; acks wait, and are written afterwards."""
    setattr(stand.mongo, how, True)
    stand.redis.seqs[PHONE] = 7
    stand.asks(PHONE)
    stand.asks(TABLET)
    assert await stand.answers(2) == [7, None]
    stand.cursors.note(PHONE, 8)
    await until(lambda: ("advance", 1) in stand.mongo.calls)
    setattr(stand.mongo, how, False)
    await until(lambda: stand.mongo.seqs.get(PHONE) == stand.redis.seqs[PHONE] == 8)


async def test_a_withdrawn_waiter_is_not_told(stand: Stand) -> None:
    """Its session has gone."""
    stand.cursors.withdraw(stand.asks(PHONE))
    stand.asks(TABLET)
    assert await stand.answers() == [50]
    assert PHONE not in stand.mongo.seqs


async def test_acks_are_written_in_chunks(stand: Stand) -> None:
    """However many there are."""
    for n in range(CHUNK_MAX + 1):
        stand.cursors.note(CursorKey(f"u{n}", "phone", f"user:u{n}"), n)
    await until(lambda: len(stand.mongo.seqs) == CHUNK_MAX + 1)
    assert [call for call in stand.mongo.calls if call[0] == "advance"][:2] == [("advance", CHUNK_MAX), ("advance", 1)]


async def test_a_cursor_of_a_session_that_ended_is_written_at_once() -> None:
    """Though its time has not come."""
    stand = Stand()
    mongo: Any = stand.mongo
    redis: Any = stand.redis
    settings = Settings(cursor_flush_s=5)
    cursors = DeviceCursors(mongo, redis, settings, Outages(Health(), settings))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cursors.run)
        cursors.note(PHONE, 7)
        cursors.note(TABLET, 7)
        cursors.hasten(PHONE)
        await until(lambda: stand.redis.seqs == {PHONE: 7})
        assert stand.mongo.seqs == {PHONE: 7}
        await cursors.flush()
        assert stand.mongo.seqs == {PHONE: 7, TABLET: 7}
        tasks.cancel_scope.cancel()


async def test_a_flush_has_an_end(stand: Stand) -> None:
    """With MongoDB away the edge ends all the same, and its devices get some messages once more."""
    stand.mongo.is_away = True
    stand.cursors.note(PHONE, 7)
    await stand.cursors.flush()
    assert stand.mongo.seqs == {}
