"""Clients for end-to-end tests that do as they are told: each says what the test says, and keeps what comes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import anyio
from redis import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from edge.client import SUBPROTOCOL
from tests.e2e.audience import PATIENCE_S
from tests.servers import wait_until
from tests.stack import Stack


class Client:
    """A connection that has been welcomed.

    Attributes:
        user: whose.
        session: the id in its welcome.
        messages: every message frame, in the order it came.
    """

    def __init__(self, connection: ClientConnection, welcome: dict[str, Any]) -> None:
        self.connection = connection
        self.user: str = welcome["user"]
        self.session: str = welcome["session"]
        self.messages: list[dict[str, Any]] = []

    async def say(self, **frame: object) -> None:
        """Send a frame."""
        await self.connection.send(json.dumps(frame))

    async def hear(self) -> dict[str, Any]:
        """Return the next frame."""
        with anyio.fail_after(PATIENCE_S):
            frame: dict[str, Any] = json.loads(await self.connection.recv())
        if frame["type"] == "message":
            self.messages.append(frame)
        return frame

    async def until(self, kind: str, **members: object) -> dict[str, Any]:
        """Return the next frame of this type with these members; no error may come before it."""
        while (frame := await self.hear())["type"] != kind or not members.items() <= frame.items():
            assert frame["type"] != "error", frame
        return frame

    async def subscribe(self, topic: str, **more: object) -> dict[str, Any]:
        """Subscribe, and return the answer."""
        await self.say(type="subscribe", topic=topic, **more)
        return await self.until("subscribed")

    async def has(self, target: str, *bodies: object) -> None:
        """Return when it has exactly these messages of a target, in this order."""
        while len(self.bodies(target)) < len(bodies):
            await self.until("message")
        assert self.bodies(target) == list(bodies)

    def bodies(self, target: str) -> list[Any]:
        """Return what the messages of a target say."""
        return [message.get("body", message.get("text")) for message in self.messages if message["to"] == target]

    async def closed(self) -> tuple[int | None, str | None]:
        """Return the code and the reason with which the edge closes."""
        with suppress(ConnectionClosed):
            while True:
                await self.hear()
        return self.connection.close_code, self.connection.close_reason


Kind = TypeVar("Kind", bound=Client)


@asynccontextmanager
async def client_of(
    kind: Callable[[ClientConnection, dict[str, Any]], Kind], stack: Stack, user: str, edge: int, query: str, **token: object
) -> AsyncIterator[Kind]:
    """Yield a client of a kind of its own; else as `client`."""
    bearer = await anyio.to_thread.run_sync(lambda: stack.token(user, **token))
    headers = {"Authorization": f"Bearer {bearer}"}
    url = stack.edge_urls[edge] + query
    async with connect(url, subprotocols=[SUBPROTOCOL], additional_headers=headers, proxy=None) as connection:
        with anyio.fail_after(PATIENCE_S):
            welcome = json.loads(await connection.recv())
        assert welcome["type"] == "welcome", welcome
        yield kind(connection, welcome)


@asynccontextmanager
async def client(stack: Stack, user: str, edge: int = 0, query: str = "", **token: object) -> AsyncIterator[Client]:
    """Yield a client that has been welcomed by edge 0 or 1.

    Args:
        stack: where the edges are.
        user: who.
        edge: which.
        query: of the address, from `?` on.
        token: what the token says beside the user; unless it says otherwise, topics that begin with `news` are granted.
    """
    async with client_of(Client, stack, user, edge, query, **{"topics": ["news*"], **token}) as made:
        yield made


def send(redis: Redis, target: str, *bodies: str) -> None:
    """Append messages."""
    for body in bodies:
        redis.xadd("push:{0}:in", {"to": target, "body": json.dumps(body)})


async def until(holds: Callable[[], object]) -> None:
    """Return when a condition holds that lies in other processes."""
    await anyio.to_thread.run_sync(wait_until, lambda: bool(holds()), "it holds", PATIENCE_S)
