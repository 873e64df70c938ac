"""router.backlog: what is told of a shard's streams, and when it is not."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest
from fakeredis import FakeAsyncRedis
from prometheus_client import REGISTRY
from redis.asyncio.client import Pipeline
from redis.exceptions import ResponseError

from router.backlog import Backlog, Stream, Waiting, read_waiting

pytestmark = pytest.mark.anyio

SHARD = 7
IN = Stream("in", "push:{7}:in", "collect", "push:{7}:pending")
DEAD = Stream("dead", "push:{7}:dead")


@pytest.fixture
async def redis() -> AsyncIterator[FakeAsyncRedis]:
    """A Redis of the test's own."""
    async with FakeAsyncRedis(protocol=2) as client:
        yield client


def _figure(name: str, stream: str) -> float | None:
    return REGISTRY.get_sample_value(f"pushway_stream_{name}", {"stream": stream, "shard": str(SHARD)})


def test_nothing_there_reads_as_nothing() -> None:
    """A stream that is missing has no group either, which is told as an error."""
    assert read_waiting([0, ResponseError("NOGROUP"), []], 1_000) == Waiting(0, 0, 0.0)


def test_oldest_entry_is_as_old_as_its_id() -> None:
    """An entry of the future, by a server that came back with another clock, is of no age."""
    assert read_waiting([2, {"pending": 1}, [(b"400-3", {})]], 1_000) == Waiting(2, 1, 0.6)
    assert read_waiting([2, 1, [(b"2000-0", {})]], 1_000) == Waiting(2, 1, 0.0)


async def test_tells_length_pending_and_age(redis: FakeAsyncRedis) -> None:
    """Of a stream with a reader; of one without, the length is all there is."""
    backlog = Backlog(redis, SHARD, [IN, DEAD])
    await redis.xadd(IN.key, {"to": "user:a"}, id=f"{int((time.time() - 60) * 1000)}-0")
    await redis.xadd(IN.key, {"to": "user:a"})
    await redis.hset(IN.in_hand, "user:a m", "5")
    await redis.xadd(DEAD.key, {"reason": "none"})
    await backlog.look()
    assert (_figure("entries", "in"), _figure("pending", "in"), _figure("entries", "dead")) == (2, 1, 1)
    age_s = _figure("oldest_seconds", "in")
    assert age_s is not None
    assert 59 < age_s < 600
    assert _figure("oldest_seconds", "dead") is None
    backlog.forget()
    assert (_figure("entries", "in"), _figure("oldest_seconds", "in")) == (None, None)


async def test_busy_redis_is_one_that_is_away(redis: FakeAsyncRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a script of somebody's runs for long, everything is answered BUSY, TIME too; the work beside goes on."""
    backlog = Backlog(redis, SHARD, [IN])

    async def answer_busy(pipe: Pipeline, *, raise_on_error: bool) -> list[Exception]:
        assert not raise_on_error
        return [ResponseError("BUSY Redis is busy running a script.")] * len(pipe)

    monkeypatch.setattr(Pipeline, "execute", answer_busy)
    with pytest.raises(ResponseError, match="BUSY"):
        await backlog.look()

    async def work(_held: str) -> None:
        await anyio.wait_all_tasks_blocked()

    await backlog.beside(work)("me 1")
    assert _figure("entries", "in") is None


async def test_tells_only_while_at_work(redis: FakeAsyncRedis) -> None:
    """Who stands by, or has lost the lease, tells nothing: not even a zero."""
    backlog = Backlog(redis, SHARD, [IN])
    assert _figure("entries", "in") is None

    async def work(held: str) -> None:
        assert held == "me 1"
        with anyio.fail_after(60):
            while _figure("entries", "in") is None:
                await anyio.lowlevel.checkpoint()

    await backlog.beside(work)("me 1")
    assert _figure("entries", "in") is None
