"""Edges in the test's own process, with real sockets, a real Redis and a real auth service around them."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from inspect import isawaitable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from uuid import uuid4

import anyio
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from edge import usual_request
from edge.service import serve
from router.auth.keyfile import load_or_make
from router.auth.service import serve as serve_auth
from router.auth.tokens import Claims, TokenRules, issue
from router.inbox import Inbox
from router.keys import Keys
from router.lines import build_frame, build_line
from router.mongo_client import open_mongo
from router.ops import Health
from router.redis_client import open_redis
from router.settings import Settings
from router.stored import Document, make_document
from tests.servers import free_ports

PROMPT_S: Final = 20.0
"""Longest anything may take on a slow machine."""

OURS: Final = Subprotocol("pushway.v1")

mongo_urls: list[str] = []
"""The run's store, last; see conftest.py. Each edge has a database of its own in it."""


async def eventually(holds: Callable[[], object]) -> None:
    """Return when the condition, which may be awaitable, holds; fail when it does not in good time."""
    with anyio.fail_after(PROMPT_S):
        while True:
            found = holds()
            if await found if isawaitable(found) else found:
                return
            await anyio.sleep(0.005)


def message(user: str, seq: int, prev: int, body: object = "hi", *, expires_ms: int | None = None) -> str:
    """Return the payload line of a durable message."""
    target = f"user:{user}"
    frame = build_frame(target, seq, f"m{seq}", 1_732_262_400_999, f'"body":{json.dumps(body)}')
    return build_line(target, prev, seq, expires_ms, frame)


def _document(line: str) -> Document | None:
    """Return what is stored of a line; None where that is nothing."""
    target, prev, seq, *rest = line.split(" ", 4)
    if len(rest) != 2 or not seq.isdigit():
        return None
    now_ms = time.time_ns() // 1_000_000
    return make_document(
        target=target,
        message_id=f"m{seq}",
        place=(int(prev), int(seq)),
        frame=rest[1],
        carried=(),
        now_ms=now_ms,
        shard=0,
        expires_ms=now_ms + 3_600_000,
    )


def usual_requests(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list that will tell of each request to an edge of this process whether it was read the short way."""
    read, taken = usual_request.read, list[bool]()

    def noted(data: bytes) -> usual_request.UsualRequest | None:
        found = read(data)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(usual_request, "read", noted)
    return taken


class Client:
    """A client's connection, speaking frames."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def next(self) -> dict[str, Any]:
        """Return the next frame."""
        with anyio.fail_after(PROMPT_S):
            frame: dict[str, Any] = json.loads(await self.connection.recv())
        return frame

    async def welcome(self) -> dict[str, Any]:
        """Return the next frame, which is the welcome."""
        frame = await self.next()
        assert frame["type"] == "welcome", frame
        return frame

    async def seqs(self, count: int) -> list[int]:
        """Return the seqs of the next messages."""
        return [(await self.next())["seq"] for _ in range(count)]

    async def send(self, **frame: object) -> None:
        """Send a frame."""
        await self.connection.send(json.dumps(frame))

    async def closed(self) -> tuple[int | None, str | None]:
        """Return code and reason of the close that comes, whatever frames come before it."""
        with suppress(ConnectionClosed):
            while True:
                await self.next()
        return self.connection.close_code, self.connection.close_reason


class Edge:
    """A running edge."""

    def __init__(self, settings: Settings, redis: Redis, inbox: Inbox) -> None:
        self.settings = settings
        self.redis = redis
        self.inbox = inbox
        self.health = Health()
        self.stop = anyio.Event()
        self.ended = anyio.Event()
        self.keys = Keys(settings.prefix, 0)
        self.url = f"ws://{settings.edge_host}:{settings.edge_port}/v1/connect"

    async def run(self) -> None:
        """Run until it is stopped."""
        await serve(self.settings, self.health, self.stop)
        self.ended.set()

    async def ready(self) -> None:
        """Return when it is ready."""
        await eventually(lambda: self.health.ready)

    async def set_head(self, user: str, head: int | str) -> None:
        """Set a user's head, as collect does, and begin the first era if none has begun."""
        redis: Any = self.redis
        await self.begin_era(1)
        await redis.hset(self.keys.seq(f"user:{user}"), mapping={"handed": str(head), "era": "1"})

    async def begin_era(self, number: int) -> None:
        """Begin an era, as collect does."""
        redis: Any = self.redis
        server = (await redis.info("replication"))["master_replid"]
        await redis.hset(self.keys.era(), mapping={"server": server, "era": str(number)})

    def token(self, user: str, *, ttl_s: int = 600, **rules: str) -> str:
        """Return a token of the auth service's key."""
        key = load_or_make(self.settings.auth_key_file)
        now = int(time.time())
        claims = Claims(user=user, expires_at=now + ttl_s, topics=(), jti="j")
        wanted = TokenRules(rules.get("issuer", "pushway"), rules.get("audience", "pushway"), 0)
        return issue(claims, key.private, key.kid, wanted, now)

    @asynccontextmanager
    async def open(
        self, token: str | None = None, *, subprotocols: tuple[str, ...] = (OURS,), origin: str | None = None, **query: str
    ) -> AsyncIterator[Client]:
        """Yield a connection; with a token, that goes in the header. One with an origin is a page's."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        if origin is not None:
            headers["Origin"] = origin
        url = f"{self.url}?{urlencode(query)}" if query else self.url
        offered = [Subprotocol(name) for name in subprotocols]
        socket = connect(url, additional_headers=headers, subprotocols=offered or None, ping_interval=None, proxy=None)
        async with socket as connection:
            yield Client(connection)

    @asynccontextmanager
    async def session(self, user: str, device: str = "phone") -> AsyncIterator[tuple[Client, str]]:
        """Yield a live session of a device that has missed nothing, and the node it is on."""
        async with self.open(self.token(user), device=device) as client:
            node = (await client.welcome())["node"]
            assert (await client.next())["type"] == "caught_up"
            yield client, node

    async def publish(self, node: str, *lines: str) -> int:
        """Store lines as collect does, and publish them to a node as dispatch does; return how many heard it."""
        await self.inbox.insert([document for line in lines if (document := _document(line)) is not None])
        heard: int = await self.redis.spublish(self.keys.node_channel(node), "\n".join(lines))
        return heard

    async def unrouted(self, user: str) -> None:
        """Return when a user is routed nowhere."""

        async def gone() -> bool:
            return not await self.routed(user)

        await eventually(gone)

    async def routed(self, user: str) -> list[str]:
        """Return the nodes that a user is routed to."""
        nodes: list[Any] = await self.redis.zrange(self.keys.route(user), 0, -1)
        return [node.decode() for node in nodes]


@asynccontextmanager
async def starting_edge(redis_url: str, folder: Path, **changes: object) -> AsyncIterator[Edge]:
    """Yield an edge that is starting on an empty Redis, and its auth service; both end with the block."""
    first = free_ports(2)
    values = {
        "redis_url": redis_url,
        "mongo_url": mongo_urls[-1],
        "mongo_database": f"edge-{uuid4().hex}",
        "edge_port": first,
        "auth_port": first + 1,
        "auth_url": f"http://127.0.0.1:{first + 1}",
        "auth_key_file": folder / "key.pem",
        "api_key": "k",
        "node": "edge-1",
        "redis_timeout_s": 1.0,
        "drain_timeout_s": 0.2,
        "close_timeout_s": 1.0,
        "backoff_max_ms": 200,
    }
    settings = Settings.model_validate(values | changes)
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_redis(settings))
        with suppress(RedisError):  # away, in some tests
            await redis.flushall()
        tasks = await stack.enter_async_context(anyio.create_task_group())
        mongo = await stack.enter_async_context(open_mongo(settings))
        edge, auth = Edge(settings, redis, Inbox(mongo, settings)), await stack.enter_async_context(anyio.create_task_group())
        auth.start_soon(serve_auth, settings, Health(), anyio.Event())
        tasks.start_soon(edge.run)
        yield edge
        edge.stop.set()
        # Cut off: that an HTTP server ends calmly takes it a tenth of a second, and is tested once, elsewhere.
        auth.cancel_scope.cancel()


@asynccontextmanager
async def running_edge(redis_url: str, folder: Path, **changes: object) -> AsyncIterator[Edge]:
    """Yield an edge that is ready, and its auth service; both end with the block."""
    async with starting_edge(redis_url, folder, **changes) as edge:
        await edge.ready()
        yield edge
