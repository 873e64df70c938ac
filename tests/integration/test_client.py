"""edge.client against a server that says what the test wants: reconnecting, stopping, dropping duplicates."""

from __future__ import annotations

import json
import socket
from typing import Any, Final

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection

from edge.client import CaughtUp, Client, Lost, Message, Noticed, NoToken, NotWelcome, Parted, Welcomed
from tests.integration.edges import eventually
from tests.integration.fake_edge import QUICK, WELCOME, FakeEdge, Listening, message, scene, since, tokens

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("as_header", [True, False])
async def test_cursor_goes_along(as_header: bool) -> None:
    """A client that comes back says what it has: the head it began at, then its last message; one given begins with that."""
    edge_ends = (scene(WELCOME | {"seq": 7}, close=None), scene(WELCOME, message(9), message(None), close=None), scene(WELCOME))
    async with FakeEdge(*edge_ends).running() as edge:
        await Listening().to(edge.url, token_in_header=as_header)
        assert [since(connect) for connect in edge.connects] == [None, 7, 9]
        await Listening().to(edge.url, token_in_header=as_header, since=0)
        assert since(edge.connects[-1]) == 0


async def test_messages_come_until_the_edge_ends_it() -> None:
    """A close with 1000 ends the iteration; before it every message came as it was sent."""
    heard = Listening()
    frames = [WELCOME, message(1), message(2, body=None, text="hi"), message(None)]
    async with FakeEdge(scene(*frames)).running() as edge:
        await heard.to(edge.url)
    first, second, third = heard.messages
    assert first == Message("user:alice", "m1", 1, 1, 1, None, json.dumps(frames[1]))
    assert (second.text, second.body) == ("hi", None)
    assert third.seq is None
    assert heard.told == [Welcomed(edge.url, "alice", "s1", "edge-1.x")]


async def test_token_goes_in_the_first_frame() -> None:
    """By default the token and the device are in the connect frame."""
    async with FakeEdge(scene(WELCOME)).running() as edge:
        await Listening().to(edge.url, device="phone")
    assert edge.connects == [{"path": "/v1/connect", "header": None, "type": "connect", "token": "t", "device": "phone"}]


async def test_token_goes_in_the_header_when_asked() -> None:
    """With the header the device is in the address, after what the address says already."""
    async with FakeEdge(scene(WELCOME)).running() as edge:
        await Listening().to(edge.url + "?a=b", device="phone 1", token_in_header=True)
    assert edge.connects == [{"path": "/v1/connect?a=b&device=phone+1", "header": "Bearer t"}]


@pytest.mark.parametrize("close", [None, 1001, 1011, 3000, 4000, 4003, 4499])
async def test_other_ends_are_followed_by_a_new_connection(close: int | None) -> None:
    """Cut off, or closed with any code but 1000 and 4500 to 4999: it comes back, with a fresh token."""
    heard = Listening()
    async with FakeEdge(scene(WELCOME, message(1), close=close), scene(WELCOME, message(2))).running() as edge:
        await heard.to(edge.url, token=tokens("first", "second"))
    assert heard.bodies == [1, 2]
    assert [connect["token"] for connect in edge.connects] == ["first", "second"]


@pytest.mark.parametrize("code", [4500, 4502, 4777, 4999])
async def test_final_codes_end_it_with_an_error(code: int) -> None:
    """4500 to 4999 are not followed by a new connection, known codes or not."""
    heard = Listening()
    async with FakeEdge(scene(close=code, reason="the token has expired")).running() as edge:
        with pytest.raises(NotWelcome, match="the token has expired") as refused:
            await heard.to(edge.url)
    assert refused.value.code == code
    assert len(edge.connects) == 1


async def test_repeated_messages_are_dropped_by_target() -> None:
    """What comes again after a reconnect is had once; each target counts for itself, transient ones always come."""
    heard = Listening()
    news = message(1, to="topic:news", body="news")
    scenes = [
        scene(WELCOME, message(5), message(6), message(None), close=None),
        scene(WELCOME, message(5), message(6), message(None), news, message(7), news),
    ]
    async with FakeEdge(*scenes).running() as edge:
        await heard.to(edge.url, topics=["news"])
    assert heard.bodies == [5, 6, None, None, "news", 7]


async def test_bye_sets_the_pause_and_is_told() -> None:
    """The edge's retry_after_ms takes the place of the drawn pause, once."""
    heard = Listening()
    bye = {"type": "bye", "reason": "draining", "retry_after_ms": 7}
    scenes = [scene(WELCOME, bye, close=4000), scene(WELCOME, close=4000), scene(WELCOME)]
    async with FakeEdge(*scenes).running() as edge:
        await heard.to(edge.url)
    pauses = [told.retry_in_s for told in heard.told if isinstance(told, Parted)]
    assert pauses[0] == 0.007
    assert pauses[1] <= QUICK.max_s
    assert Noticed(bye) in heard.told


async def test_next_edge_in_turn_is_tried() -> None:
    """An edge that is away is followed by the next one."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        away = f"ws://127.0.0.1:{unused.getsockname()[1]}/v1/connect"
    heard = Listening()
    async with FakeEdge(scene(WELCOME, message(1))).running() as edge:
        await heard.to(away, edge.url)
    assert heard.bodies == [1]
    assert [(told.url, told.why) for told in heard.told if isinstance(told, Parted)] == [(away, "nothing listens there")]


async def test_token_that_cannot_be_had_is_asked_for_again() -> None:
    """An OSError of the token source is a reason to wait, told as such; anything else is the caller's."""
    asked = 0

    async def give() -> str:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise ConnectionError("auth is away")
        return "t"

    heard = Listening()
    async with FakeEdge(scene(WELCOME, message(1))).running() as edge:
        await heard.to(edge.url, token=give)
    assert heard.bodies == [1]
    assert [told.why for told in heard.told if isinstance(told, NoToken)] == ["auth is away"]
    assert not any(isinstance(told, Parted) for told in heard.told)


NONSENSE: Final = [
    "x",
    "[]",
    b"\x00",
    '{"type":"message","to":"user:alice"}',
    json.dumps(message(3, to="user:bob")),
    json.dumps(message(2**53)),
    "[" * 100_000,
]


@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_nonsense_ends_the_connection_and_not_the_iteration(nonsense: str | bytes) -> None:
    """Whatever answers there is left, and tried again."""
    heard = Listening()
    async with FakeEdge(scene(WELCOME, nonsense), scene(WELCOME, message(1))).running() as edge:
        await heard.to(edge.url)
    assert heard.bodies == [1]


@pytest.mark.parametrize("first", [message(1), {"type": "welcome", "user": "alice"}])
async def test_no_message_is_taken_before_a_good_welcome(first: dict[str, object]) -> None:
    """Nobody could tell whose it is, and behind what."""
    heard = Listening()
    async with FakeEdge(scene(first, message(1)), scene(WELCOME, message(2))).running() as edge:
        await heard.to(edge.url)
    assert heard.bodies == [2]


async def test_server_that_is_no_edge_is_tried_again() -> None:
    """A refused handshake is like an edge that is away."""
    heard = Listening()
    async with FakeEdge(scene(WELCOME, message(1)), refusals=1).running() as edge:
        await heard.to(edge.url)
    assert heard.bodies == [1]
    assert any(isinstance(told, Parted) and "503" in told.why for told in heard.told)


async def test_a_balancer_that_waits_no_longer_for_the_request_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine so busy that the request comes late; the iteration goes on."""
    handshake, given_up = ClientConnection.handshake, list[bool]()

    async def late(connection: ClientConnection, *words: Any) -> None:  # noqa: ANN401 - as it has them
        if connection.remote_address[1] == port:
            await eventually(connection.protocol.close_expected)
        await handshake(connection, *words)

    async def answer_unasked(peer: SocketStream) -> None:
        async with peer:
            await peer.send(b"HTTP/1.1 408 Request Time-out\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            given_up.append(True)
            await anyio.sleep_forever()

    monkeypatch.setattr(ClientConnection, "handshake", late)
    heard = Listening()
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - not Django's
        tasks.start_soon(listener.serve, answer_unasked)
        async with FakeEdge(scene(WELCOME, message(1))).running() as edge:
            await heard.to(f"ws://127.0.0.1:{port}/v1/connect", edge.url)
        tasks.cancel_scope.cancel()
    assert given_up == [True]
    assert heard.bodies == [1]
    assert any(isinstance(told, Parted) and "before the request" in told.why for told in heard.told)


async def test_frames_nobody_has_heard_of_are_told() -> None:
    """A newer edge may say more; it does no harm."""
    heard = Listening()
    async with FakeEdge(scene(WELCOME, {"type": "novelty"}, message(1))).running() as edge:
        await heard.to(edge.url)
    assert Noticed({"type": "novelty"}) in heard.told
    assert heard.bodies == [1]


async def test_leaving_closes_the_connection() -> None:
    """A caller that stops early says goodbye to the edge."""
    closed = anyio.Event()

    async def stay(_edge: FakeEdge, connection: ServerConnection) -> None:
        await connection.send(json.dumps(WELCOME))
        await connection.send(json.dumps(message(1)))
        await connection.wait_closed()
        closed.set()

    async with FakeEdge(stay).running() as edge:
        async with Client([edge.url], tokens("t")) as client:
            assert (await anext(client)).body == 1
        await closed.wait()


async def test_cancelled_wait_loses_no_message() -> None:
    """A caller may wait with a timeout, over and over."""
    go_on = anyio.Event()

    async def later(_edge: FakeEdge, connection: ServerConnection) -> None:
        await connection.send(json.dumps(WELCOME))
        await go_on.wait()
        await connection.send(json.dumps(message(1)))
        await connection.close()

    async with FakeEdge(later).running() as edge, Client([edge.url], tokens("t")) as client:
        with anyio.move_on_after(0.2):
            await anext(client)
        go_on.set()
        assert (await anext(client)).body == 1
        assert len(edge.connects) == 1


async def test_what_the_edge_says_of_the_messages_is_told() -> None:
    """Being caught up and having lost something have statuses of their own; one of another shape is shown as it came."""
    heard = Listening()
    lost: dict[str, object] = {"type": "lost", "to": "user:alice", "from": 3, "until": 9}
    caught_up = {"type": "caught_up", "to": "user:alice", "seq": 12}
    async with FakeEdge(scene(WELCOME, lost, caught_up, lost | {"until": None}, close=None), scene(WELCOME)).running() as edge:
        await heard.to(edge.url, since=3)
        assert since(edge.connects[-1]) == 12
    assert heard.told[1:4] == [Lost("user:alice", 3, 9), CaughtUp("user:alice", 12), Noticed(lost | {"until": None})]
