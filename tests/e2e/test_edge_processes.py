"""`pushway edge --workers`: several processes on one port, one that keeps them running, and one that ends them."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import anyio
import httpx
import pytest

from edge.client import Client, Status, Welcomed
from tests.e2e.clients import send, until
from tests.servers import Process, free_ports
from tests.stack import Stack

pytestmark = pytest.mark.anyio

CLIENTS = 24


class Edges(Process):
    """Two workers behind one command."""

    def __init__(self, stack: Stack, folder: Path, **settings: str) -> None:
        super().__init__("edges", folder / "edges.log")
        self._config = stack.config
        self._settings = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        self.port = free_ports(3)
        self.url = f"ws://127.0.0.1:{self.port}/v1/connect"

    def command(self) -> list[str]:
        """Return the command line."""
        flags = ["--node", "both", "--port", str(self.port), "--ops-port", str(self.port + 1), "--workers", "2"]
        return [sys.executable, "-m", "router.commands", "edge", "--config", str(self._config), *flags, *self._settings]

    def answers(self) -> bool:
        """Tell whether both are ready."""
        try:
            return all(httpx.get(f"http://127.0.0.1:{self.port + n}/readyz", trust_env=False).is_success for n in (1, 2))
        except httpx.HTTPError:
            return False

    def pids(self, name: str) -> list[int]:
        """Return the processes that there have been of a name."""
        said = re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text(encoding="utf-8"))
        return [int(pid) for pid in re.findall(rf"process_started\s+name={name} pid=(\d+)", said)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield all of Pushway with no edge of its own."""
    with Stack(tmp_path_factory.mktemp("stack"), edges=1, settings={"drain_timeout_s": 1.0}) as stack:
        yield stack


@asynccontextmanager
async def _audience(stack: Stack, url: str) -> AsyncIterator[tuple[dict[str, str], dict[str, list[object]]]]:
    """Yield on which node each user was welcomed last, and what each has heard."""
    nodes: dict[str, str] = {}
    heard: dict[str, list[object]] = {}

    async def listen(user: str, token: str) -> None:
        async def same() -> str:
            return token

        def note(status: Status) -> None:
            if isinstance(status, Welcomed):
                nodes[user] = status.node

        async with Client([url], same, since=0, on_status=note) as client:
            async for message in client:
                heard.setdefault(user, []).append(message.body)

    async with AsyncExitStack() as exits:
        tasks = await exits.enter_async_context(anyio.create_task_group())
        for number in range(CLIENTS):
            tasks.start_soon(listen, f"u{number}", stack.token(f"u{number}"))
        await until(lambda: len(nodes) == CLIENTS)
        yield nodes, heard
        tasks.cancel_scope.cancel()


def _gone(*pids: int) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def _names(nodes: dict[str, str]) -> set[str]:
    return {node.partition(".")[0] for node in nodes.values()}


async def test_the_kernel_shares_out_and_a_dead_one_comes_back(stack: Stack, tmp_path: Path) -> None:
    """Each is a node of its own; who was on one that is killed is back on one of them, and misses nothing. Then both end."""
    edges = Edges(stack, tmp_path).start()
    try:
        async with _audience(stack, edges.url) as (nodes, heard):
            assert _names(nodes) == {"both-1", "both-2"}
            first = dict(nodes)
            (victim,) = edges.pids("both-1")
            os.kill(victim, signal.SIGKILL)
            with closing(stack.redis_client()) as redis:
                for user in nodes:
                    send(redis, f"user:{user}", "one")
            await until(lambda: len(heard) == CLIENTS)
            await until(lambda: len(edges.pids("both-1")) == 2 and edges.answers())
            stayed = [user for user in nodes if nodes[user] == first[user]]
            assert stayed
            assert {first[user].partition(".")[0] for user in stayed} == {"both-2"}
            assert all(said == ["one"] for said in heard.values())
            assert await anyio.to_thread.run_sync(edges.stop) == 0
            assert _gone(*edges.pids("both-1"), *edges.pids("both-2"))
    finally:
        if not edges.ended:
            edges.kill()


async def test_what_must_not_start_is_not_started_again(stack: Stack, tmp_path: Path) -> None:
    """With a setting that does not fit, all of it ends with exit code 2, as one edge does."""
    edges = Edges(stack, tmp_path, edge_tls_cert_file="none.pem", edge_tls_key_file="none.key").launch()
    await until(lambda: edges.ended)
    assert edges.stop() == 2
    assert len(edges.pids("both-1")) == len(edges.pids("both-2")) == 1


async def test_nothing_outlives_the_one_that_keeps_them(stack: Stack, tmp_path: Path) -> None:
    """Killed as it stands, it takes its processes with it."""
    edges = Edges(stack, tmp_path).start()
    pids = [*edges.pids("both-1"), *edges.pids("both-2")]
    edges.kill()
    await until(lambda: _gone(*pids))
