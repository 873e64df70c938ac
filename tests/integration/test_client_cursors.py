"""edge.client against a server that says what the test wants: what is handled, kept and acknowledged, and tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from websockets.asyncio.server import ServerConnection

from edge.client import (
    Client,
    CursorsOfAnother,
    FileCursors,
    MemoryCursors,
    Noticed,
    NoToken,
    NotWelcome,
    Parted,
    Refused,
    Status,
)
from tests.integration.edges import eventually
from tests.integration.fake_edge import QUICK, WELCOME, FakeEdge, Listening, message, recording, scene, since, tokens

pytestmark = pytest.mark.anyio


async def test_message_is_handled_when_the_next_is_asked_for() -> None:
    """Leaving closes with an ack of what was handled; the one in hand is not, and comes to the next client again."""
    frames: list[dict[str, Any]] = []
    cursors = MemoryCursors()
    async with FakeEdge(recording(frames, WELCOME, message(1), message(2), message(3))).running() as edge:
        async with Client([edge.url], tokens("t"), device="phone", cursors=cursors) as client:
            async for received in client:
                if received.seq == 3:
                    break
        await eventually(lambda: frames == [{"type": "ack", "seq": 2}])
        async with Client([edge.url], tokens("t"), device="phone", cursors=cursors) as client:
            assert (await anext(client)).seq == 3
            assert since(edge.connects[-1]) == 2


async def test_acks_are_sent_for_several_at_once() -> None:
    """One every so many messages, and none between."""
    frames: list[dict[str, Any]] = []
    edge_says = [message(seq) for seq in range(1, 11)]
    async with FakeEdge(recording(frames, WELCOME, *edge_says)).running() as edge:
        async with Client([edge.url], tokens("t"), device="phone", ack_every=4, ack_interval_s=60) as client:
            for _ in range(10):
                await anext(client)
        await eventually(lambda: len(frames) == 3)
    assert [frame["seq"] for frame in frames] == [4, 8, 9]


async def test_ack_comes_in_time_though_nothing_follows() -> None:
    """A quiet stream does not leave the last message unacknowledged, nor unkept; without a device there is no ack."""
    frames: list[dict[str, Any]] = []
    kept = MemoryCursors()
    async with FakeEdge(recording(frames, WELCOME, message(1))).running() as edge:
        for device in (None, "phone"):
            async with Client([edge.url], tokens("t"), device=device, cursors=kept, since=0, ack_interval_s=0.01) as client:
                with anyio.move_on_after(0.2):
                    while True:
                        await anext(client)
                assert (await kept.load())["user:alice"] == 1
                assert len(frames) == (0 if device is None else 1)
                kept = MemoryCursors()


@pytest.mark.parametrize("close", [1000, 4502])
async def test_what_came_before_the_end_is_handed_out(close: int) -> None:
    """Though acks and tokens find the connection closed: its last frames are still to be read."""
    expiring = {"type": "expiring", "in_s": 30}
    frames = [frame for seq in range(1, 41) for frame in (message(seq), expiring)]
    got: list[int | None] = []
    async with FakeEdge(scene(WELCOME, *frames, close=close)).running() as edge:
        async with Client([edge.url], tokens("t"), device="phone", ack_every=1) as client:
            with suppress(NotWelcome):
                async for received in client:
                    got.append(received.seq)
                    if received.seq == 1:
                        await anyio.sleep(0.1)
        assert len(edge.connects) == 1
    assert got == list(range(1, 41))


async def test_ack_that_found_no_connection_is_made_up_for() -> None:
    """It goes to the next one, behind its welcome, and is not beyond what that began with."""
    frames: list[dict[str, Any]] = []
    scenes = (scene(WELCOME, message(1), message(2), close=None), recording(frames, WELCOME))
    async with (
        FakeEdge(*scenes).running() as edge,
        Client([edge.url], tokens("t"), device="phone", pauses=QUICK, ack_interval_s=0.01) as client,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(2):
            await anext(client)
        tasks.start_soon(anext, client)
        await eventually(lambda: bool(frames))
        tasks.cancel_scope.cancel()
        assert frames == [{"type": "ack", "seq": 2}]
        assert since(edge.connects[-1]) == 2


async def test_device_without_a_cursor_begins_where_the_edge_has_it() -> None:
    """No `since` goes along, over reconnects too, until a message or `caught_up` has told where that is."""
    caught_up = {"type": "caught_up", "to": "user:alice", "seq": 4}
    scenes = (scene(WELCOME | {"seq": 7}, close=None), scene(WELCOME | {"seq": 7}, caught_up, close=None), scene(WELCOME))
    async with FakeEdge(*scenes).running() as edge:
        await Listening().to(edge.url, device="phone")
        assert [since(connect) for connect in edge.connects] == [None, None, 4]


async def test_start_is_kept_before_anything_is_handed_out(tmp_path: Path) -> None:
    """A client that began with what comes from now on has not lost its place if it dies with the first message in hand."""
    path = tmp_path / "cursors"
    async with FakeEdge(scene(WELCOME | {"seq": 7}, message(8))).running() as edge:
        async with Client([edge.url], tokens("t"), cursors=FileCursors(path)) as client:
            await anext(client)
            assert await FileCursors(path).load() == {"user:alice": 7, "all": 0}
        await Listening().to(edge.url, cursors=FileCursors(path))
        assert [since(connect) for connect in edge.connects] == [None, 7]
        assert await FileCursors(path).load() == {"user:alice": 8, "all": 0}


async def test_cursors_of_another_user_end_it() -> None:
    """Reconnecting does not help: the application has mixed them up."""
    heard = Listening()
    async with FakeEdge(scene(WELCOME, message(1))).running() as edge:
        with pytest.raises(CursorsOfAnother):
            await heard.to(edge.url, cursors=MemoryCursors({"user:bob": 5}))
    assert heard.bodies == []


async def test_error_of_the_store_is_the_application_s() -> None:
    """It is no reason to reconnect, and not passed over; the connection is closed all the same."""

    class Full(MemoryCursors):
        async def save(self, _cursors: Mapping[str, int]) -> None:
            raise OSError("the disk is full")

    async with FakeEdge(recording([], WELCOME, message(1))).running() as edge:
        with pytest.raises(OSError, match="the disk is full"):
            await Listening().to(edge.url, cursors=Full())
        assert len(edge.connects) == 1


async def test_expired_token_is_followed_by_a_fresh_one() -> None:
    """After 4003 the cached one is not asked for; once welcomed it is again."""
    scenes = (scene(WELCOME, close=4003), scene(close=4001), scene(WELCOME, close=None), scene(WELCOME))
    async with FakeEdge(*scenes).running() as edge:
        await Listening().to(edge.url, token=tokens("cached"), fresh_token=tokens("fresh"))
    assert [connect["token"] for connect in edge.connects] == ["cached", "fresh", "fresh", "cached"]


async def test_expiring_token_is_renewed_on_the_connection() -> None:
    """A fresh one is sent, and an edge that does not take it does no harm; one that does is asked again for what it refused."""
    frames: list[dict[str, Any]] = []

    async def play(_edge: FakeEdge, connection: ServerConnection) -> None:
        for frame in (WELCOME, {"type": "expiring", "in_s": 30}):
            await connection.send(json.dumps(frame))
        frames.append(json.loads(await connection.recv()))
        for answer in ({"type": "error", "code": "bad_token", "message": "token"}, {"type": "expiring", "in_s": 1}):
            await connection.send(json.dumps(answer))
        frames.append(json.loads(await connection.recv()))
        await connection.send(json.dumps({"type": "extended", "in_s": 600}))
        frames.append(json.loads(await connection.recv()))
        await connection.send(json.dumps(message(1)))
        await connection.close()

    heard = Listening()
    async with FakeEdge(play).running() as edge:
        await heard.to(edge.url, token=tokens("cached"), fresh_token=tokens("fresh", "fresher"), topics=["news"])
    tokens_sent = [{"type": "token", "token": "fresh"}, {"type": "token", "token": "fresher"}]
    assert frames == [*tokens_sent, {"type": "subscribe", "topic": "news"}]
    assert heard.bodies == [1]
    assert Refused("bad_token", "token") in heard.told
    assert Noticed({"type": "extended", "in_s": 600}) in heard.told


async def test_connection_outlives_a_token_that_cannot_be_renewed() -> None:
    """It is told, and the messages go on until the edge closes."""

    async def away() -> str:
        raise ConnectionError("auth is away")

    async def hang() -> str:
        await anyio.sleep_forever()
        raise AssertionError

    for source, why in ((away, "auth is away"), (hang, "none came within")):
        heard = Listening()
        async with FakeEdge(scene(WELCOME, {"type": "expiring", "in_s": 0.05}, message(1))).running() as edge:
            await heard.to(edge.url, fresh_token=source)
        assert heard.bodies == [1]
        assert [told for told in heard.told if isinstance(told, NoToken) and why in told.why]


async def test_a_newer_token_is_asked_for_again_while_there_is_time() -> None:
    """When there was none, and when the edge could not check it; the connection goes on meanwhile."""
    frames: list[dict[str, Any]] = []
    tries = 0

    async def seldom() -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ConnectionError("auth is away")
        return f"try {tries}"

    async def play(_edge: FakeEdge, connection: ServerConnection) -> None:
        for frame in (WELCOME, {"type": "expiring", "in_s": 30}):
            await connection.send(json.dumps(frame))
        for answer in ({"type": "error", "code": "unavailable", "message": "token"}, message(1)):
            frames.append(json.loads(await connection.recv()))
            await connection.send(json.dumps(answer))
        await connection.close()

    heard = Listening()
    async with FakeEdge(play).running() as edge:
        await heard.to(edge.url, token=tokens("cached"), fresh_token=seldom)
    assert frames == [{"type": "token", "token": "try 2"}, {"type": "token", "token": "try 3"}]
    assert [told.why for told in heard.told if isinstance(told, NoToken)] == ["auth is away"]
    assert heard.bodies == [1]


async def test_timeouts_of_the_caller_do_not_shorten_the_pause() -> None:
    """Who waits with a timeout over and over comes back no sooner than who waits calmly."""
    bye = {"type": "bye", "reason": "draining", "retry_after_ms": 300}
    told: list[Status] = []
    began_s = anyio.current_time()
    async with (
        FakeEdge(scene(WELCOME, bye, close=4000), scene(WELCOME, message(1))).running() as edge,
        Client([edge.url], tokens("t"), on_status=told.append) as client,
    ):
        got: list[object] = []
        while not got:
            with anyio.move_on_after(0.05):
                got.append((await anext(client)).body)
    assert [status.retry_in_s for status in told if isinstance(status, Parted)] == [0.3]
    assert anyio.current_time() - began_s >= 0.3
    assert len(edge.connects) == 2


async def test_outside_its_context_a_client_says_so() -> None:
    """Its cursors would not be loaded."""
    with pytest.raises(RuntimeError, match="async with Client"):
        await anext(Client(["ws://e"], tokens("t")))
