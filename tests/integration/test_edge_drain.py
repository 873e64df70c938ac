"""An edge that stops: everybody is told, nobody is left in Redis."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from tests.integration.edges import PROMPT_S, Edge, eventually, message, running_edge
from tests.servers import EmbeddedValkey, free_ports

pytestmark = pytest.mark.anyio


async def test_everybody_gets_bye_and_4000_and_the_rest_goes_on(valkey_server: EmbeddedValkey, tmp_path: Path) -> None:
    """Sessions leave one after the other; those that wait for their turn still get their messages."""
    async with AsyncExitStack() as stack:
        edge = await stack.enter_async_context(running_edge(valkey_server.url, tmp_path, drain_timeout_s=2.0))
        entered = [await stack.enter_async_context(edge.session(f"u{n}")) for n in range(8)]
        node = entered[0][1]
        edge.stop.set()
        await eventually(lambda: "draining" in edge.health.reasons)
        left: list[str] = []
        heard: list[str] = []

        async def live(name: str, n: int) -> None:
            client, _ = entered[n]
            while (frame := await client.next())["type"] == "message":
                heard.append(name)
            assert (frame["type"], frame["reason"]) == ("bye", "draining")
            assert 0 <= frame["retry_after_ms"] <= edge.settings.backoff_max_ms
            left.append(name)
            assert await client.closed() == (4000, "draining")

        async with anyio.create_task_group() as tasks:
            for n in range(8):
                tasks.start_soon(live, f"u{n}", n)
            await eventually(lambda: left)
            await edge.publish(node, *(message(f"u{n}", 1, 0) for n in range(8)))
        assert len(left) == 8
        assert heard
        with anyio.fail_after(PROMPT_S):
            await edge.ended.wait()
        assert not await edge.redis.exists(*(edge.keys.route(f"u{n}") for n in range(8)), edge.keys.info(node))
        assert await edge.redis.zscore(edge.keys.nodes(), node) is None


async def test_an_edge_without_sessions_ends_at_once(valkey_server: EmbeddedValkey, tmp_path: Path) -> None:
    """Nobody has to be waited for."""
    async with running_edge(valkey_server.url, tmp_path, drain_timeout_s=60.0, close_timeout_s=60.0) as edge:
        edge.stop.set()
        with anyio.fail_after(PROMPT_S):
            await edge.ended.wait()


async def test_who_does_not_answer_is_cut(valkey_server: EmbeddedValkey, tmp_path: Path) -> None:
    """A client that does not read holds the edge up for no longer than `close_timeout_s`."""
    async with running_edge(valkey_server.url, tmp_path, close_timeout_s=0.3) as edge, edge.session("alice") as (client, _):
        client.connection.transport.pause_reading()
        edge.stop.set()
        with anyio.fail_after(PROMPT_S):
            await edge.ended.wait()
        client.connection.transport.abort()


async def test_a_cancelled_edge_cuts_everybody(valkey_server: EmbeddedValkey, tmp_path: Path) -> None:
    """A second signal does not wait for anybody."""
    async with running_edge(valkey_server.url, tmp_path) as edge, anyio.create_task_group() as tasks:
        other = Edge(edge.settings.model_copy(update={"edge_port": free_ports()}), edge.redis, edge.inbox)
        tasks.start_soon(other.run)
        await other.ready()
        async with other.session("alice") as (client, _):
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                assert (await client.closed())[0] == 1006


async def test_a_node_is_seen_while_it_lives(valkey_server: EmbeddedValkey, tmp_path: Path) -> None:
    """Heartbeat and info stand in Redis, with the number of sessions."""
    async with running_edge(valkey_server.url, tmp_path, node_ttl_ms=500) as edge, edge.session("alice") as (_, node):

        async def counted() -> bool:
            return bool(await edge.redis.hget(edge.keys.info(node), "sessions") == b"1")

        await eventually(counted)
        info = await edge.redis.hgetall(edge.keys.info(node))
        assert set(info) == {b"address", b"version", b"started", b"sessions", b"state"}
        assert info[b"state"] == b"live"
        assert info[b"address"] == f"ws://127.0.0.1:{edge.settings.edge_port}".encode()
        assert await edge.redis.zscore(edge.keys.nodes(), node)
