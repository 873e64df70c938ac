"""`at` and `collapse` through all of Pushway: sent when due whatever restarts, or called back; and only the newest replayed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import httpx
import pytest

from tests.e2e.audience import PATIENCE_S, Audience
from tests.stack import API_KEY, Stack

pytestmark = pytest.mark.anyio

_AUTH = {"authorization": f"Bearer {API_KEY}"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with one edge."""
    settings = {"lease_ms": 1_000, "wait_ms": 200}
    with Stack(tmp_path_factory.mktemp("stack"), edges=1, settings=settings) as stack:
        yield stack


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _append(stack: Stack, **fields: object) -> None:
    with stack.redis_client() as redis:
        redis.xadd("push:{0}:in", {name: str(value) for name, value in fields.items()})


async def _until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE_S):
        while not await anyio.to_thread.run_sync(condition):  # noqa: ASYNC110 - it is the servers' to change
            await anyio.sleep(0.02)


def _waits(stack: Stack, message_id: str) -> bool:
    with stack.mongo_client() as mongo:
        return mongo[stack.settings.mongo_database].later.count_documents({"id": message_id}) == 1


def _is_stored(stack: Stack, message_id: str) -> bool:
    with stack.mongo_client() as mongo:
        return mongo[stack.settings.mongo_database].inbox.count_documents({"id": message_id}) == 1


async def test_sent_when_due_and_not_before(stack: Stack) -> None:
    """Live, with its time for its `ts`; what was appended behind it and waits for nothing comes first."""
    async with Audience(stack) as audience:
        seat = await audience.join("alice", 0)
        at_ms = _now_ms() + 2_000
        _append(stack, to="user:alice", text="later", at=at_ms, id="sent-later")
        await _until(lambda: _waits(stack, "sent-later"))
        _append(stack, to="user:alice", text="now")
        await audience.until(lambda: "later" in seat.bodies)
        arrived_ms = _now_ms()
    first, second = seat.messages
    assert (first["text"], second["text"], second["ts"]) == ("now", "later", at_ms)
    assert arrived_ms >= at_ms
    assert second["seq"] > first["seq"]


async def test_survives_whatever_restarts(stack: Stack) -> None:
    """Collect is killed again and again while it waits and when it is due, everything else is restarted: it comes once."""
    at_ms = _now_ms() + 4_000
    _append(stack, to="user:bob", text="later", at=at_ms, id="outlives")
    await _until(lambda: _waits(stack, "outlives"))
    stack["collect"].kill()
    for name in ("redis", "store", "dispatch", "edge-1"):
        stack.processes[name].stop()
        stack.processes[name].start()
    async with Audience(stack) as audience:
        seat = await audience.join("bob", 0, again=True)
        while not _is_stored(stack, "outlives"):
            stack["collect"].start()
            await anyio.sleep(0.3)  # a moment to get anywhere in: it is killed at whatever point that is
            stack["collect"].kill()
        stack["collect"].start()
        _append(stack, to="user:bob", text="last", id="last")
        await audience.until(lambda: "last" in seat.bodies)
    assert seat.bodies == ["later", "last"]
    assert seat.messages[0]["ts"] == at_ms


async def test_called_back_it_never_comes(stack: Stack) -> None:
    """By the API; what is due behind it comes."""
    async with Audience(stack) as audience:
        seat = await audience.join("carol", 0)
        at_ms = _now_ms() + 1_500
        _append(stack, to="user:carol", text="never", at=at_ms, id="called-back")
        _append(stack, to="user:carol", text="then", at=at_ms + 500, id="then")
        await _until(lambda: _waits(stack, "then"))
        url = f"http://127.0.0.1:{stack.settings.api_port}/v1/messages/called-back"
        answer = await anyio.to_thread.run_sync(lambda: httpx.delete(url, headers=_AUTH, trust_env=False))
        assert answer.is_success, answer.text
        await audience.until(lambda: bool(seat.bodies))
    assert seat.bodies == ["then"]


async def test_whoever_comes_back_gets_only_the_newest(stack: Stack) -> None:
    """Live it was all of them; in the replay, one a key, in order, among what has none."""
    said: list[tuple[str, dict[str, Any]]] = [
        ("unread 1", {"collapse": "unread"}),
        ("hello", {}),
        ("price 1", {"collapse": "price"}),
        ("unread 2", {"collapse": "unread"}),
        ("price 2", {"collapse": "price"}),
        ("unread 3", {"collapse": "unread"}),
    ]
    async with Audience(stack) as audience:
        left = await audience.join("dave", 0)
        _append(stack, to="user:dave", text="first")
        await audience.until(lambda: left.bodies == ["first"])
    async with Audience(stack) as audience:
        live = await audience.join("dave", 0)
        for text, more in said:
            _append(stack, to="user:dave", text=text, **more)
        await audience.until(lambda: len(live.bodies) == len(said))
        assert live.bodies == [text for text, _ in said]
        back = await audience.come_back(left)
        await audience.until(lambda: "unread 3" in back.bodies)
    assert back.bodies == ["first", "hello", "price 2", "unread 3"]
