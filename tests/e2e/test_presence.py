"""Who comes and goes, with all of Pushway running: edges that are left, edges that are killed, and owners that are."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

import anyio
import httpx
import pytest
from redis import Redis
from websockets.asyncio.client import ClientConnection, connect

import lua
from edge.client import SUBPROTOCOL
from router.keys import Keys
from router.presence import Presence, presence_of
from router.redis_client import open_redis
from tests.servers import wait_until
from tests.stack import API_KEY, Stack

pytestmark = pytest.mark.anyio

KEYS: Final = Keys("push", 0)
GRACE_MS: Final = 2_000
NODE_TTL_MS: Final = 1_500
SETTINGS: Final = {"offline_grace_ms": GRACE_MS, "node_ttl_ms": NODE_TTL_MS, "lease_ms": 1_000}

USERS: Final = 200
CROWD: Final = 50_000
AT_ONCE: Final = 20
PATIENCE_S: Final = 60.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of it, with two edges."""
    with Stack(tmp_path_factory.mktemp("stack"), edges=2, settings=SETTINGS) as running:
        yield running


async def _tokens(stack: Stack, users: Sequence[str]) -> dict[str, str]:
    """Return a token of each user."""
    tokens: dict[str, str] = {}
    limit = anyio.CapacityLimiter(AT_ONCE)

    async def fetch(user: str) -> None:
        tokens[user] = await anyio.to_thread.run_sync(stack.token, user, limiter=limit)

    async with anyio.create_task_group() as tasks:
        for user in users:
            tasks.start_soon(fetch, user)
    return tokens


@asynccontextmanager
async def _session(stack: Stack, token: str, edge: int, device: str = "phone") -> AsyncIterator[ClientConnection]:
    """Yield a session that has had its welcome."""
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{stack.edge_urls[edge]}?device={device}"
    options: dict[str, Any] = {"subprotocols": [SUBPROTOCOL], "compression": None, "proxy": None, "ping_interval": None}
    async with connect(url, additional_headers=headers, open_timeout=PATIENCE_S, **options) as connection:
        with anyio.fail_after(PATIENCE_S):
            assert json.loads(await connection.recv())["type"] == "welcome"
        yield connection


async def _open(sessions: AsyncExitStack, stack: Stack, tokens: dict[str, str], users: Sequence[str], edge: int) -> None:
    """Open a session of each user, some at a time."""
    limit = anyio.CapacityLimiter(AT_ONCE)

    async def enter(user: str) -> None:
        async with limit:
            await sessions.enter_async_context(_session(stack, tokens[user], edge))

    async with anyio.create_task_group() as tasks:
        for user in users:
            tasks.start_soon(enter, user)


def _events(redis: Redis, *users: str) -> list[tuple[str, str]]:
    """Return (event, user or node) of all events, or of those of some users."""
    found: Any = redis.xrange(KEYS.events())
    told = [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in found]
    return [
        (one["event"], one.get("user", one["node"] if one["event"] == "gone" else ""))
        for one in told
        if not users or one.get("user") in users
    ]


async def _until(stack: Stack, holds: Any, what: str) -> None:  # noqa: ANN401 - a condition on a client
    with stack.redis_client() as redis:
        await anyio.to_thread.run_sync(wait_until, partial(holds, redis), what)


def _is_leaving(redis: Redis, user: str) -> bool:
    return redis.zscore(KEYS.leaving(), user) is not None


def _online_by_api(stack: Stack, user: str) -> bool:
    url, headers = f"http://127.0.0.1:{stack.settings.api_port}/v1/users/{user}", {"authorization": f"Bearer {API_KEY}"}
    online: bool = httpx.get(url, headers=headers, trust_env=False).raise_for_status().json()["online"]
    return online


async def _until_presence(stack: Stack, users: Sequence[str], holds: Callable[[list[Presence]], bool]) -> None:
    """Ask after users until it is as it should be."""
    with anyio.fail_after(PATIENCE_S):
        while not holds(await _presence(stack, users)):  # noqa: ASYNC110 - Redis rings no bell for it
            await anyio.sleep(0.02)


async def _presence(stack: Stack, users: Sequence[str]) -> list[Presence]:
    async with open_redis(stack.settings) as redis:
        return await presence_of(redis, stack.settings, users)


async def test_coming_and_going_is_told_once_each(stack: Stack) -> None:
    """Who is back within the grace was never offline; who is not is offline once it is over, and had been online since then."""
    token = stack.token("alice")
    async with _session(stack, token, 0):
        await _until(stack, lambda redis: _events(redis, "alice") == [("online", "alice")], "alice is online")
    await _until(stack, partial(_is_leaving, user="alice"), "alice is on the way")
    async with _session(stack, token, 1), _session(stack, token, 0, "tablet"):
        await _until(stack, lambda redis: not _is_leaving(redis, "alice"), "alice is back")
        (found,) = await _presence(stack, ["alice"])
        assert found.online
        assert await anyio.to_thread.run_sync(_online_by_api, stack, "alice")
        assert {node.devices for node in found.nodes} == {("phone",), ("tablet",)}
        with stack.redis_client() as redis:
            assert _events(redis, "alice") == [("online", "alice")]
    left_s = time.monotonic()
    await _until(stack, lambda redis: len(_events(redis, "alice")) > 1, "alice is offline")
    assert time.monotonic() - left_s > GRACE_MS / 1000 / 2
    with stack.redis_client() as redis:
        assert _events(redis, "alice") == [("online", "alice"), ("offline", "alice")]
        last: Any = redis.xrevrange(KEYS.events(), count=1)
        assert last[0][1][b"since"].decode() == str(found.since_ms)
    assert not (await _presence(stack, ["alice"]))[0].online


async def test_devices_are_told_as_they_come_and_go(stack: Stack) -> None:
    """Of one user on one edge: the entry is written anew with each of them."""
    token = stack.token("dora")

    async def devices_are(*devices: str) -> None:
        await _until_presence(stack, ["dora"], lambda found: [node.devices for node in found[0].nodes] == [devices])

    async with _session(stack, token, 0, "phone"):
        await devices_are("phone")
        async with _session(stack, token, 0, "desk"):
            await devices_are("desk", "phone")
        await devices_are("phone")


async def test_an_edge_that_drains_leaves_nothing_behind(stack: Stack) -> None:
    """Nobody takes it for dead: its users are offline after the grace, and it is not gone."""
    async with _session(stack, stack.token("carl"), 1) as connection:
        await _until(stack, lambda redis: _events(redis, "carl") == [("online", "carl")], "carl is online")
        (node,) = (await _presence(stack, ["carl"]))[0].nodes
        await anyio.to_thread.run_sync(stack["edge-2"].stop)
        await connection.wait_closed()
    try:
        await _until(stack, lambda redis: len(_events(redis, "carl")) > 1, "carl is offline")
        with stack.redis_client() as redis:
            assert _events(redis, "carl") == [("online", "carl"), ("offline", "carl")]
            assert ("gone", node.node) not in _events(redis)
            assert redis.zscore(KEYS.nodes(), node.node) is None
            assert not redis.exists(KEYS.on(node.node))
    finally:
        stack["edge-2"].start()  # in this thread: a process ends with the one that started it


async def test_a_killed_edge_takes_those_who_are_not_back_with_it(stack: Stack) -> None:
    """Half of its users come back on another edge: nothing is told of them. The rest is offline, each once, behind one gone."""
    users = [f"user-{n}" for n in range(USERS)]
    back, away = users[::2], users[1::2]
    tokens = await _tokens(stack, users)
    async with AsyncExitStack() as sessions:
        await _open(sessions, stack, tokens, users, 0)
        await _until(stack, lambda redis: len(_events(redis, *users)) == USERS, "all are online")
        (node,) = {node.node for one in await _presence(stack, users) for node in one.nodes}
        stack["edge-1"].kill()
        killed_s = time.monotonic()
        await _open(sessions, stack, tokens, back, 1)
        await _until_presence(stack, users, lambda found: [one.user for one in found if one.online] == back)
        print(f"presence was right {time.monotonic() - killed_s:.2f} s after the kill; node_ttl is {NODE_TTL_MS} ms")  # noqa: T201
        await _until(stack, lambda redis: _events(redis).count(("gone", node)) == 1, "the node is gone")
        await _until(stack, lambda redis: len(_events(redis, *users)) >= USERS + len(away), "the rest is offline")
        print(f"offline was said of all {time.monotonic() - killed_s:.2f} s after it; the grace is {GRACE_MS} ms")  # noqa: T201
        with stack.redis_client() as redis:
            told = _events(redis)
            behind = told[told.index(("gone", node)) :]
            assert sorted(behind[1:]) == sorted(("offline", user) for user in away)
            assert Counter(_events(redis, *users)) == Counter(
                [("online", user) for user in users] + [("offline", user) for user in away]
            )
            assert not redis.exists(KEYS.on(node))
            assert redis.zscore(KEYS.nodes(), node) is None
    stack["edge-1"].start()


async def test_a_frozen_edge_tells_anew_of_those_who_are_still_there(tmp_path: Any) -> None:  # noqa: ANN401 - a fixture
    """It was taken for gone, and its users were offline. All that is taken back with its heartbeat, not with some renewal."""
    users = [f"user-{n}" for n in range(20)]
    settings = SETTINGS | {"events_topics": ["room"], "route_ttl_ms": 3_600_000}
    with Stack(tmp_path, edges=1, settings=settings) as stack:
        tokens = {user: stack.token(user, topics=["room"]) for user in users}
        async with AsyncExitStack() as sessions:
            for user in users:
                connection = await sessions.enter_async_context(_session(stack, tokens[user], 0))
                await connection.send(json.dumps({"type": "subscribe", "topic": "room"}))
            await _until(stack, partial(_told, event="subscribed", times=len(users)), "all are subscribed")
            stack["edge-1"].pause()
            await _until(stack, partial(_told, event="offline", times=len(users)), "all are offline")
            stack["edge-1"].resume()
            for event in ("online", "subscribed"):
                await _until(stack, partial(_told, event=event, times=2 * len(users)), f"all are {event} again")
        with stack.redis_client() as redis:
            told = [event for event, _ in _events(redis)]
            assert told.count("gone") == 1
            assert "subscribed" not in told[told.index("gone") : told.index("offline")]
            assert all([event for event, _ in _events(redis, user)].count("online") == 2 for user in users)


def _told(redis: Redis, event: str, times: int) -> bool:
    return [one for one, _ in _events(redis)].count(event) >= times


def _settle_crowd(redis: Redis, node: str, users: Sequence[str]) -> None:
    """Write routes of a node as an edge does."""
    script: Any = redis.register_script(lua.source("route_set"))
    presence = [KEYS.nodes(), KEYS.online(), KEYS.on(node), KEYS.leaving(), KEYS.events()]
    for begin in range(0, len(users), 256):
        some = users[begin : begin + 256]
        names = [KEYS.era(), *presence, *map(KEYS.route, some), *(KEYS.seq(f"user:{user}") for user in some)]
        args = [node, 60_000, GRACE_MS, 10 * CROWD, *["1"] * len(some), *[""] * len(some), *["phone"] * len(some)]
        script(keys=names, args=args)


def _count_offline(redis: Redis) -> int:
    """Return how many of the crowd have been taken back from online."""
    return CROWD - int(redis.hlen(KEYS.online()))


def test_an_owner_killed_between_slices_says_nothing_twice(tmp_path: Any) -> None:  # noqa: ANN401 - a fixture
    """A standby goes on where it was, and each of a dead node's users is offline once."""
    users, node = [f"u{n}" for n in range(CROWD)], "edge-9.zzzzzz"
    with Stack(tmp_path, edges=1, settings=SETTINGS | {"events_max": 10 * CROWD}) as stack, stack.redis_client() as redis:
        standby = stack.another("dispatch", "standby").start()
        _settle_crowd(redis, node, users)
        redis.zadd(KEYS.nodes(), {node: int(time.time() * 1000) - GRACE_MS})
        wait_until(lambda: _count_offline(redis) > 0, "offline is said of the first")
        stack["dispatch"].kill()
        said = _count_offline(redis)
        wait_until(lambda: _count_offline(redis) == CROWD, "offline is said of all")
        print(f"the owner was killed when offline had been said of {said:,} of {CROWD:,}")  # noqa: T201
        told = Counter(_events(redis))
        assert told == Counter([("gone", node), *((event, user) for user in users for event in ("online", "offline"))])
        assert not standby.ended
