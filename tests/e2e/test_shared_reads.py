"""A crowd comes back to one topic, each behind a cursor of its own: the inbox is read once for all of them, on real servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import anyio
import pytest
from redis import Redis
from websockets.asyncio.client import ClientConnection, connect

from edge.client import SUBPROTOCOL
from tests.stack import Stack

pytestmark = pytest.mark.anyio

PATIENCE_S: Final = 120.0
MESSAGES: Final = 600
CROWD: Final = 120
PRICED: Final = range(5, MESSAGES, 10)
"""Which messages are a price, of which only the newest counts."""
OWN: Final = range(7, MESSAGES, 20)
"""Which pass the devices `phone` of one user by."""
PAGES = 'pushway_mongo_seconds_count{operation="page"}'


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with one edge."""
    settings = {"connections_address_max": 10_000, "handshakes_address_s_max": 10_000}
    with Stack(tmp_path_factory.mktemp("stack"), edges=1, settings=settings) as stack:
        yield stack


async def _connect(stack: Stack, user: str, query: str = "") -> ClientConnection:
    bearer = await anyio.to_thread.run_sync(lambda: stack.token(user, topics=["*"]))
    connection = await connect(
        stack.edge_urls[0] + query,
        subprotocols=[SUBPROTOCOL],
        additional_headers={"Authorization": f"Bearer {bearer}"},
        proxy=None,
        max_queue=None,
    )
    await _until(connection, "welcome")
    return connection


async def _until(connection: ClientConnection, kind: str, to: str = "") -> list[dict[str, Any]]:
    """Return the messages that come before a frame of this type."""
    messages = []
    while (frame := json.loads(await connection.recv()))["type"] != kind or frame.get("to", "") != to:
        assert frame["type"] in {"message", "subscribed", "caught_up"}, frame
        if frame["type"] == "message":
            messages.append(frame)
    return messages


def _append(redis: Redis) -> None:
    with redis.pipeline(transaction=False) as pipe:
        for number in range(MESSAGES):
            fields: dict[Any, Any] = {"to": "topic:news", "text": f"{number}"}
            fields |= {"collapse": "price"} if number in PRICED else {}
            fields |= {"exclude": "device:crowd-0,phone"} if number in OWN else {}
            pipe.xadd("push:{0}:in", fields)
        pipe.execute()


async def _seqs_of_all(stack: Stack) -> list[int]:
    """Have the messages sent, and return their seqs: live, everybody gets all of them."""
    connection = await _connect(stack, "first")
    async with connection:
        await connection.send(json.dumps({"type": "subscribe", "topic": "news"}))
        await _until(connection, "subscribed")
        with stack.redis_client() as redis:
            await anyio.to_thread.run_sync(_append, redis)
        return [json.loads(await connection.recv())["seq"] for _ in range(MESSAGES)]


def _pages(stack: Stack) -> float:
    try:
        return stack["edge-1"].metric(PAGES)
    except StopIteration:  # none has been read yet
        return 0.0


async def test_a_crowd_comes_back_to_one_topic(stack: Stack) -> None:
    """Each has all behind its cursor, in order and once, but for what passes it by and prices of before; few pages are read."""
    had = [number * 211 % (MESSAGES - 1) - 1 for number in range(CROWD)]
    came: dict[int, list[str]] = {}
    with anyio.fail_after(PATIENCE_S):
        seqs = await _seqs_of_all(stack)
        before = _pages(stack)

        async def come_back(number: int) -> None:
            async with await _connect(stack, f"crowd-{number}", "?device=phone") as connection:
                since = seqs[had[number]] if had[number] >= 0 else seqs[0] - 1
                await connection.send(json.dumps({"type": "subscribe", "topic": "news", "since": since}))
                messages = await _until(connection, "caught_up", "topic:news")
                came[number] = [message["text"] for message in messages]

        async with anyio.create_task_group() as tasks:
            for number in range(CROWD):
                tasks.start_soon(come_back, number)
    for number in range(CROWD):
        sent = [n for n in range(had[number] + 1, MESSAGES) if n not in PRICED or n == PRICED[-1]]
        assert came[number] == [f"{n}" for n in sent if number or n not in OWN]
    assert _pages(stack) - before < CROWD / 4
