"""edge.client on a connection that has gone dead without a word, and with an application that takes its time."""

from __future__ import annotations

import json
from typing import Final

import anyio
import pytest
from websockets.asyncio.server import ServerConnection

from edge.client import Client, Parted, Status
from edge.client import link as link_module
from tests.cable import cable
from tests.integration.fake_edge import QUICK, WELCOME, FakeEdge, Listening, Scene, message, scene, tokens

pytestmark = pytest.mark.anyio

HEARTBEAT_S: Final = 0.1
HASTY: Final = WELCOME | {"heartbeat": HEARTBEAT_S}

FRAME_CHARS: Final = 100_000
FRAMES: Final = 600


def staying(*frames: object) -> Scene:
    """Say these frames and then nothing, until the client leaves."""

    async def play(_edge: FakeEdge, connection: ServerConnection) -> None:
        for frame in frames:
            await connection.send(json.dumps(frame))
        await connection.wait_closed()

    return play


async def test_dead_connection_is_left_for_a_new_one() -> None:
    """When the other side has vanished, its silence gives it away; what comes by the next connection comes once."""
    told: list[Status] = []
    async with (
        FakeEdge(staying(HASTY, message(1)), staying(HASTY, message(1), message(2))).running() as edge,
        cable(edge.url) as way,
        Client([way.url], tokens("t"), pauses=QUICK, on_status=told.append) as client,
    ):
        assert (await anext(client)).body == 1
        way.unplug()
        assert (await anext(client)).body == 2
    assert [status.why for status in told if isinstance(status, Parted)] == ["a ping was not answered within 0.1 s"]


async def test_quiet_connection_is_kept() -> None:
    """An edge that has nothing to say answers pings, and that is enough."""
    heard = Listening()
    async with FakeEdge(staying(HASTY, message(1))).running() as edge:
        with anyio.move_on_after(8 * HEARTBEAT_S):
            await heard.to(edge.url)
        assert len(edge.connects) == 1
    assert heard.bodies == [1]


async def test_slow_application_keeps_its_connection() -> None:
    """Time that the application takes is no silence, though pings and their answers stand behind what it has not read."""
    told: list[Status] = []
    frames = [message(seq) for seq in range(1, 60)]
    async with FakeEdge(scene(HASTY, *frames)).running() as edge:
        async with Client([edge.url], tokens("t"), on_status=told.append) as client:
            async for received in client:
                if received.seq in {1, 30, 59}:
                    await anyio.sleep(5 * HEARTBEAT_S)
        assert len(edge.connects) == 1
    assert not [status for status in told if isinstance(status, Parted)]


async def test_edge_that_says_no_welcome_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else it says."""
    monkeypatch.setattr(link_module, "WELCOME_TIMEOUT_S", 0.1)
    heard = Listening()
    novelties = [{"type": "novelty"}] * 20
    async with FakeEdge(staying(*novelties), scene(WELCOME, message(1))).running() as edge:
        await heard.to(edge.url)
    assert heard.bodies == [1]
    assert [status.why for status in heard.told if isinstance(status, Parted)] == ["no welcome came within 0.1 s"]


async def test_what_nobody_asks_for_is_not_read() -> None:
    """An edge that has 60 MB to say gets rid of little more than the system's own buffers; all of it comes when asked for."""
    sent = 0
    stalled = anyio.Event()

    async def flood(_edge: FakeEdge, connection: ServerConnection) -> None:
        nonlocal sent
        await connection.send(json.dumps(WELCOME))
        for seq in range(1, FRAMES + 1):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_ring_when_late, stalled)
                await connection.send(json.dumps(message(seq, body="x" * FRAME_CHARS)))
                tasks.cancel_scope.cancel()
            sent += 1
        await connection.close()

    async with FakeEdge(flood).running() as edge, Client([edge.url], tokens("t")) as client:
        await anext(client)
        await stalled.wait()
        assert sent < FRAMES / 2
        assert [received.seq async for received in client] == list(range(2, FRAMES + 1))


async def _ring_when_late(stalled: anyio.Event) -> None:
    await anyio.sleep(0.5)
    stalled.set()
