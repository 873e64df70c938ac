"""A server that says what a test of the client wants, and an application that listens to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import anyio
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from edge.client import SUBPROTOCOL, Client, Message, Pauses, Status, TokenSource

TIMEOUT_S: Final = 60.0
QUICK: Final = Pauses(min_s=0.001, max_s=0.002)

WELCOME: Final = {"type": "welcome", "user": "alice", "session": "s1", "node": "edge-1.x", "seq": 0, "all": 0, "heartbeat": 25}

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


def recording(frames: list[dict[str, Any]], *opening: object) -> Scene:
    """Say these frames and keep what the client says, until it leaves."""

    async def play(_edge: FakeEdge, connection: ServerConnection) -> None:
        for frame in opening:
            await connection.send(json.dumps(frame))
        async for said in connection:
            frames.append(json.loads(said))  # noqa: PERF401 - looked at before it is over

    return play


def since_all(connect: dict[str, Any]) -> dict[str, int]:
    """Return what a client said it has: `user`, `all`, `topic:<name>` → seq."""
    if connect["header"] is None:
        return dict(connect.get("since", {}))
    (said,) = parse_qs(urlsplit(connect["path"]).query).get("since", [""])
    named = [part if ":" in part else f"user:{part}" for part in said.split(",") if part]
    return {name: int(seq) for name, _, seq in (part.rpartition(":") for part in named)}


def since(connect: dict[str, Any]) -> int | None:
    """Return which seq of the user's own a client said it has."""
    return since_all(connect).get("user")
