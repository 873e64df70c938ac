"""Devices on real edges: cursors kept for them, and one session each, wherever."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from unittest.mock import patch

import anyio
import pytest
from websockets.frames import Frame, Opcode

from router.cursors import CursorKey, Cursors
from router.mongo_client import open_mongo
from tests.integration.edges import Client, Edge, eventually, message, running_edge
from tests.servers import EmbeddedValkey, free_ports

pytestmark = pytest.mark.anyio

PHONE = CursorKey("alice", "phone", "user:alice")
SEQ = time.time_ns() // 1_000
RACES = 20


@pytest.fixture
async def edge(valkey_server: EmbeddedValkey, tmp_path: Path) -> AsyncIterator[Edge]:
    """Yield an edge that writes cursors soon."""
    async with running_edge(valkey_server.url, tmp_path, cursor_flush_s=0.05) as running:
        yield running


@pytest.fixture
async def edges(edge: Edge) -> AsyncIterator[tuple[Edge, Edge]]:
    """Yield it and another one on the same servers."""
    async with anyio.create_task_group() as tasks:
        changes = {"edge_port": free_ports(), "node": "edge-2"}
        other = Edge(edge.settings.model_copy(update=changes), edge.redis, edge.inbox)
        tasks.start_soon(other.run)
        await other.ready()
        yield edge, other
        other.stop.set()


async def stored(edge: Edge) -> int | None:
    """Return where the phone's cursor stands in MongoDB."""
    async with open_mongo(edge.settings) as mongo:
        return (await Cursors(mongo, edge.settings).find([PHONE])).get(PHONE)


async def cached(edge: Edge) -> int | None:
    """Return where the phone's cursor stands in Redis."""
    seq = await edge.redis.hget(edge.keys.ack("alice"), "phone user:alice")
    return None if seq is None else int(seq)


async def test_a_device_gets_what_it_has_not_acknowledged(edge: Edge) -> None:
    """In order, then what comes live; what it acknowledged does not come again, nor does what came before it was known."""
    await edge.set_head("alice", SEQ)
    async with edge.session("alice", "phone") as (client, node):
        lines = [message("alice", SEQ + n, SEQ + n - 1) for n in range(1, 6)]
        await edge.publish(node, *lines)
        assert await client.seqs(5) == [SEQ + n for n in range(1, 6)]
        await client.send(type="ack", seq=SEQ + 2)
        await eventually(lambda: cached_is(edge, SEQ + 2))
    await edge.publish(node, message("alice", SEQ + 6, SEQ + 5))
    await edge.set_head("alice", SEQ + 6)
    async with edge.open(edge.token("alice"), device="phone") as client:
        assert (await client.welcome())["seq"] == SEQ + 6
        assert await client.seqs(4) == [SEQ + n for n in range(3, 7)]
        assert (await client.next())["type"] == "caught_up"
        await edge.publish(node, message("alice", SEQ + 7, SEQ + 6))
        assert await client.seqs(1) == [SEQ + 7]


async def cached_is(edge: Edge, seq: int) -> bool:
    """Tell whether the phone's cursor stands there, in both places."""
    return await cached(edge) == await stored(edge) == seq


async def test_a_new_device_is_known_before_it_is_welcome(edge: Edge) -> None:
    """Its cursor stands in MongoDB then; a session without a device leaves none."""
    async with edge.open(edge.token("alice")) as nameless:
        await nameless.welcome()
        assert await stored(edge) is None
    async with edge.session("alice", "phone"):
        assert await stored(edge) is not None


async def test_since_becomes_the_devices_cursor(edge: Edge) -> None:
    """So that the device may leave it out the next time."""
    async with edge.open(edge.token("alice"), device="phone", since="0") as client:
        await client.welcome()
    await eventually(lambda: cached_is(edge, 0))


async def test_what_was_acknowledged_last_is_written_when_the_edge_stops(valkey_server: EmbeddedValkey, tmp_path: Path) -> None:
    """Its time had not come."""
    async with (
        running_edge(valkey_server.url, tmp_path, cursor_flush_s=5) as edge,
        edge.session("alice", "phone") as (client, node),
    ):
        await edge.publish(node, message("alice", SEQ, 0))
        assert await client.seqs(1) == [SEQ]
        await client.send(type="ack", seq=SEQ)
        await client.send(type="ping")
        assert (await client.next())["type"] == "pong"
        edge.stop.set()
        await client.closed()
        await edge.ended.wait()
        assert await stored(edge) == SEQ


async def test_4502_across_edges(edges: tuple[Edge, Edge]) -> None:
    """The older session ends wherever it is; other devices and nameless sessions stay."""
    one, two = edges
    async with (
        one.session("alice", "phone") as (older, _),
        one.session("alice", "tablet") as (tablet, node),
        one.open(one.token("alice")) as nameless,
    ):
        await nameless.welcome()
        async with two.session("alice", "phone") as (newer, other_node):
            assert await older.closed() == (4502, "replaced: a newer session of this device")
            await one.publish(node, message("alice", SEQ, 0))
            await two.publish(other_node, message("alice", SEQ, 0))
            for client in (tablet, newer, nameless):
                assert await client.seqs(1) == [SEQ]


async def test_of_two_that_come_at_once_one_stays(edges: tuple[Edge, Edge]) -> None:
    """Whichever it is: never both, never neither."""
    for race in range(RACES):
        async with AsyncExitStack() as stack:
            clients = await both(stack, edges, f"racer-{race}")
            await eventually(lambda clients=clients: not all(is_open(client) for client in clients))  # type: ignore[misc]
            (stays,) = [client for client in clients if is_open(client)]
            await stays.welcome()
            await stays.send(type="ping")
            while (await stays.next())["type"] != "pong":
                pass


async def test_a_session_whose_client_has_gone_elsewhere_replaces_nobody(edges: tuple[Edge, Edge]) -> None:
    """It is taken in later than the live one, as by an edge that was frozen, and never answers; here or elsewhere."""
    one, two = edges
    async with one.session("alice", "phone") as (client, node):
        for nth, edge in enumerate(edges):
            async with dead(edge, "alice"):
                # What could end the live session was published before this.
                await one.publish(node, message("alice", SEQ + nth, SEQ + nth - 1 if nth else 0))
                assert await client.seqs(1) == [SEQ + nth]
        async with two.open(two.token("alice"), device="phone"):
            assert (await client.closed())[0] == 4502


async def test_a_device_does_not_wait_for_the_end_of_its_dead_session(edges: tuple[Edge, Edge]) -> None:
    """That one was there first: on the same edge, where it counts for no session more, or another."""
    for nth, edge in enumerate(edges):
        user = f"waiter-{nth}"
        async with dead(edges[0], user), edge.session(user, "phone") as (client, node):
            await edge.publish(node, message(user, SEQ, 0))
            assert await client.seqs(1) == [SEQ]


@asynccontextmanager
async def dead(edge: Edge, user: str) -> AsyncIterator[None]:
    """Have a session of the phone that is welcome, with a client that answers no ping."""
    async with edge.open() as client:
        protocol = client.connection.protocol
        send_frame = protocol.send_frame

        def send_no_pong(frame: Frame) -> None:
            if frame.opcode is not Opcode.PONG:
                send_frame(frame)

        with patch.object(protocol, "send_frame", send_no_pong):
            await client.send(type="connect", token=edge.token(user), device="phone")
            await client.welcome()
            yield


async def both(stack: AsyncExitStack, edges: tuple[Edge, Edge], user: str) -> list[Client]:
    """Return a client of the same device on each edge, opened at once."""
    clients: list[Client] = []

    async def come(edge: Edge) -> None:
        clients.append(await stack.enter_async_context(edge.open(edge.token(user), device="phone")))

    async with anyio.create_task_group() as tasks:
        for edge in edges:
            tasks.start_soon(come, edge)
    return clients


def is_open(client: Client) -> bool:
    """Tell whether nobody has closed the connection."""
    return client.connection.close_code is None
