"""edge.client against a server that says what the test wants: reconnecting, stopping, dropping duplicates."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from edge.client import (
    SUBPROTOCOL,
    Client,
    Message,
    Noticed,
    NoToken,
    NotWelcome,
    Parted,
    Pauses,
    Status,
    TokenSource,
    Welcomed,
)

pytestmark = pytest.mark.anyio

TIMEOUT_S: Final = 20.0
QUICK: Final = Pauses(min_s=0.001, max_s=0.002)

WELCOME: Final = {"type": "welcome", "user": "alice", "session": "s1", "node": "edge-1.x", "seq": 0, "heartbeat": 25}

Scene = Callable[["FakeEdge", ServerConnection], Awaitable[None]]


class FakeEdge:
    """A server that plays one scene a connection, the last one over and over."""

    def __init__(self, *scenes: Scene, refusals: int = 0) -> None:
        self.scenes = scenes
        self.refusals = refusals
        self.connects: list[dict[str, Any]] = []
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeEdge]:
        """Listen on a free port."""
        listening = serve(self._play, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL], process_request=self._refuse)
        async with listening as server:
            port = next(iter(server.sockets)).getsockname()[1]
            self.url = f"ws://127.0.0.1:{port}/v1/connect"
            with anyio.fail_after(TIMEOUT_S):
                yield self

    def _refuse(self, connection: ServerConnection, _request: Request) -> Response | None:
        self.refusals -= 1
        return connection.respond(503, "starting") if self.refusals >= 0 else None

    async def _play(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        seen: dict[str, Any] = {"path": connection.request.path, "header": connection.request.headers.get("Authorization")}
        if seen["header"] is None:
            seen |= json.loads(await connection.recv())
        self.connects.append(seen)
        await self.scenes[min(len(self.connects), len(self.scenes)) - 1](self, connection)


def message(seq: int | None, **changes: object) -> dict[str, object]:
    """A message frame for Alice."""
    numbered = {} if seq is None else {"seq": seq}
    return {"type": "message", "to": "user:alice", **numbered, "id": f"m{seq}", "ts": 1, "body": seq, **changes}


def scene(*frames: object, close: int | None = 1000, reason: str = "") -> Scene:
    """Say these frames, then close; a `close` of None cuts the connection without a word."""

    async def play(_edge: FakeEdge, connection: ServerConnection) -> None:
        for frame in frames:
            await connection.send(frame if isinstance(frame, (str, bytes)) else json.dumps(frame))
        if close is None:
            connection.transport.abort()
        else:
            await connection.close(close, reason)

    return play


def tokens(*values: str) -> TokenSource:
    """Give these tokens, the last one over and over."""
    given = iter(values)
    last = values[-1]

    async def give() -> str:
        return next(given, last)

    return give


class Listening:
    """What a client got: bodies of the messages, and what it told."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.told: list[Status] = []

    @property
    def bodies(self) -> list[object]:
        """The bodies in order."""
        return [message.body for message in self.messages]

    async def to(self, *urls: str, token: TokenSource | None = None, **options: Any) -> None:  # noqa: ANN401
        """Listen until the iteration ends."""
        source = token or tokens("t")
        async with Client(urls, source, on_status=self.told.append, **{"pauses": QUICK, **options}) as client:
            async for received in client:
                self.messages.append(received)


@pytest.mark.parametrize("as_header", [True, False])
async def test_cursor_goes_along(as_header: bool) -> None:
    """A client that comes back says what it has: the head it began at, then its last message; one given begins with that."""
    edge_ends = (scene(WELCOME | {"seq": 7}, close=None), scene(WELCOME, message(9), message(None), close=None), scene(WELCOME))
    async with FakeEdge(*edge_ends).running() as edge:
        await Listening().to(edge.url, token_in_header=as_header)
        assert [_since(connect) for connect in edge.connects] == [None, 7, 9]
        await Listening().to(edge.url, token_in_header=as_header, since=0)
        assert _since(edge.connects[-1]) == 0


def _since(connect: dict[str, Any]) -> int | None:
    if connect["header"] is None:
        return dict(connect.get("since", {})).get("user")
    (since,) = parse_qs(urlsplit(connect["path"]).query).get("since", [None])
    return None if since is None else int(since)


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
        await heard.to(edge.url)
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


@pytest.mark.parametrize("nonsense", ["x", "[]", b"\x00", '{"type":"message","to":"user:alice"}', "[" * 100_000])
async def test_nonsense_ends_the_connection_and_not_the_iteration(nonsense: str | bytes) -> None:
    """Whatever answers there is left, and tried again."""
    heard = Listening()
    async with FakeEdge(scene(WELCOME, nonsense), scene(WELCOME, message(1))).running() as edge:
        await heard.to(edge.url)
    assert heard.bodies == [1]


async def test_server_that_is_no_edge_is_tried_again() -> None:
    """A refused handshake is like an edge that is away."""
    heard = Listening()
    async with FakeEdge(scene(WELCOME, message(1)), refusals=1).running() as edge:
        await heard.to(edge.url)
    assert heard.bodies == [1]
    assert any(isinstance(told, Parted) and "503" in told.why for told in heard.told)


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


def test_pauses_grow_to_their_ceiling_and_start_at_nothing() -> None:
    """Full jitter: evenly from 0 to a ceiling that doubles and then stays."""
    pauses = Pauses(min_s=1, max_s=8)
    for failures, ceiling_s in [(0, 1), (1, 2), (2, 4), (3, 8), (4, 8), (10_000, 8)]:
        drawn = [pauses.after(failures) for _ in range(300)]
        assert 0 <= min(drawn) < ceiling_s / 4
        assert ceiling_s * 3 / 4 < max(drawn) <= ceiling_s
