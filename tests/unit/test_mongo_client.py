"""router.mongo_client: calls that are cancelled while the server does not answer, and a client that closes."""

from __future__ import annotations

import ast
import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog
from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect, BulkWriteError, NotPrimaryError

import edge
import router
from router import mongo_client
from router.collect.eras import Eras
from router.cursors import CursorKey, Cursors
from router.inbox import Inbox
from router.mongo_client import brief, cancelled_once, open_mongo
from router.settings import Settings
from router.stored import Document
from tests.collecting import until

pytestmark = pytest.mark.anyio

PROMPT_S = 30.0
CALLS = 20
SPIN_S = 0.3

MODULES = sorted(path for package in (router, edge) for path in Path(str(package.__file__)).parent.rglob("*.py"))


Client = AsyncMongoClient[Document]


@asynccontextmanager
async def _silence() -> AsyncIterator[tuple[Client, Settings]]:
    """Yield a client of a MongoDB that never answers. A test that fails ends too: a lock that is left behind is opened."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        settings = Settings(mongo_url=f"mongodb://127.0.0.1:{server.getsockname()[1]}", mongo_timeout_s=60.0)
        async with open_mongo(settings) as client:
            try:
                yield client, settings
            finally:
                lock = client._topology._lock
                while lock.locked():
                    lock.release()
                    await anyio.sleep(0.01)
                # The driver leaks its socket where it is closed while it connects: its first word is waited for.
                with anyio.fail_after(PROMPT_S):
                    connection, _ = await loop.sock_accept(server)
                    with connection:
                        await loop.sock_recv(connection, 1)


def _calls(client: Client, settings: Settings) -> list[Callable[[], Awaitable[object]]]:
    inbox, cursors, eras = Inbox(client, settings), Cursors(client, settings), Eras(client, settings)
    return [
        lambda: inbox.find(["user:a m"]),
        lambda: inbox.newest(["user:a"]),
        lambda: inbox.page("user:a", 0, 9, 9, 999),
        lambda: anext(inbox.recent(0, datetime.now(UTC), 9, 999)),
        lambda: cursors.begin({CursorKey("a", "phone", "user:a"): 1}),
        lambda: eras.last(0),
    ]


async def _cancel_calls(client: Client, settings: Settings) -> None:
    """Have many calls wait for a server, and cancel them all."""
    calls = _calls(client, settings)

    async def call(number: int) -> None:
        await calls[number % len(calls)]()

    async with anyio.create_task_group() as tasks:
        for number in range(CALLS):
            tasks.start_soon(call, number)
        waiting = client._topology._condition._waiters
        await until(lambda: len(waiting) == CALLS)
        tasks.cancel_scope.cancel()


async def test_calls_that_are_cancelled_at_once_leave_a_client_that_works() -> None:
    """They end without an error, and so do those after them, the client, and all of its tasks."""
    before = asyncio.all_tasks()
    async with _silence() as (client, settings):
        for _ in range(2):
            with anyio.fail_after(PROMPT_S):
                await _cancel_calls(client, settings)
            assert not mongo_client._ending
    await until(lambda: asyncio.all_tasks() == before)


async def test_calls_that_are_cancelled_do_not_spin() -> None:
    """Once their cancellation is under way, nothing keeps the processor busy."""
    async with _silence() as (client, settings):
        await _cancel_calls(client, settings)
        before_s = time.process_time()
        await anyio.sleep(SPIN_S)
        assert time.process_time() - before_s < SPIN_S / 2


async def test_results_and_errors_come_through() -> None:
    """A call that is not cancelled is as without the wrapping."""

    @cancelled_once
    async def halve(number: int) -> int:
        await asyncio.sleep(0)
        if number % 2:
            raise ValueError(number)
        return number // 2

    assert await halve(6) == 3
    with pytest.raises(ValueError, match="7"):
        await halve(7)


async def test_a_call_is_cancelled_once_and_waited_for() -> None:
    """It may await in peace what puts things in order; what it raises then is nobody's."""
    steps: list[str] = []

    @cancelled_once
    async def tidy() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            for step in "abc":
                await asyncio.sleep(0.01)
                steps.append(step)
            raise ValueError

    with anyio.move_on_after(0.01):
        await tidy()
    assert steps == ["a", "b", "c"]


async def test_a_call_that_will_not_end_is_left_and_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is cancelled goes on; the call is held until it ends."""
    monkeypatch.setattr(mongo_client, "END_TIMEOUT_S", 0.01)
    let_go = asyncio.Event()

    @cancelled_once
    async def stubborn() -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    with structlog.testing.capture_logs() as logs, anyio.move_on_after(0.01):
        await stubborn()
    assert [entry["event"] for entry in logs] == ["driver_call_left"]
    (left,) = mongo_client._ending
    let_go.set()
    await left
    await asyncio.sleep(0)
    assert not mongo_client._ending


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "db:27017: timed out (configured timeouts: …), Timeout: 10.0s, Topology Description: <…>",
            "db:27017: timed out",
        ),
        ("No servers found yet, Timeout: 4.0s, Topology Description: <…>", "No servers found yet"),
        ("operation cancelled", "the server takes connections and does not answer"),
        ("not primary\nand more", "not primary"),
        ("", "AutoReconnect"),
    ],
)
async def test_what_the_driver_says_is_told_in_brief(said: str, told: str) -> None:
    """Without its own settings and the state of every server; and what says nothing to an operator, in words that do."""
    assert brief(AutoReconnect(said)) == told


def _unwrapped(tree: ast.Module) -> Iterator[str]:
    """Yield the coroutine functions that may be called from outside and are not wrapped; generators are no coroutines."""
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_")]
    for function in (node for body in bodies for node in body if isinstance(node, ast.AsyncFunctionDef)):
        wrapped = any(isinstance(name, ast.Name) and name.id == "cancelled_once" for name in function.decorator_list)
        generates = any(isinstance(node, ast.Yield) for node in ast.walk(function))
        if not (wrapped or generates or function.name.startswith("_")):
            yield function.name


def _asks_mongodb(path: Path) -> bool:
    return "pymongo.asynchronous" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [path for path in MODULES if _asks_mongodb(path)], ids=lambda path: path.stem)
def test_whatever_asks_mongodb_is_wrapped(path: Path) -> None:
    """All that the modules with collections offer is cancelled once.

    But migrate(), which is a command's and nobody's task; and insert(), of whose two ways one goes past the driver, and the
    other is wrapped.
    """
    assert set(_unwrapped(ast.parse(path.read_text(encoding="utf-8")))) <= {"migrate", "insert"}


@pytest.mark.parametrize(
    ("details", "told"),
    [
        ({"writeConcernErrors": [{"errmsg": "waiting for replication timed out"}], "writeErrors": []}, "waiting for"),
        ({"writeConcernErrors": [], "writeErrors": [{"errmsg": "not primary", "op": {"frame": "hello"}}]}, "not primary"),
        ({}, "batch op errors occurred"),
    ],
)
def test_what_a_failed_bulk_says_is_the_servers_word(details: dict[str, Any], told: str) -> None:
    """And not that there was an error, nor the document."""
    assert brief(BulkWriteError(details)).startswith(told)
    assert "hello" not in brief(BulkWriteError(details))


async def test_an_error_is_told_without_the_servers_answer() -> None:
    """Which has clocks and signatures in it."""
    assert brief(NotPrimaryError("not primary", {"ok": 0.0, "code": 10107})) == "not primary"
