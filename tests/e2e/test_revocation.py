"""Revocation on real servers: sessions of a token, a user, everybody; edges that are cut off; and what is good afterwards."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import httpx
import pytest
from redis import Redis
from websockets.asyncio.client import connect

from edge.client import SUBPROTOCOL, NotWelcome, Status, Welcomed
from edge.client import Client as ClientLibrary
from tests.chaos.proxy import BLACK_HOLE, CUT, Link
from tests.e2e.audience import PATIENCE_S
from tests.e2e.clients import Client, client, send, until
from tests.e2e.command_line import run
from tests.stack import API_KEY, Stack
from tests.stopwatch import Stopwatch

pytestmark = pytest.mark.anyio

PROMPT_S: Final = 1.0
"""How soon sessions end."""

GRACE_S: Final = 3.0

QUICK: Final[dict[str, Any]] = {
    "backoff_min_ms": 10,
    "backoff_max_ms": 100,
    "redis_timeout_s": 1.0,
    "mongo_timeout_s": 1.0,
    "probe_quiet_ms": 300,
    "probe_timeout_ms": 1_000,
    "revocation_refresh_s": 0.5,
}


async def revoke(stack: Stack, **what: object) -> dict[str, Any]:
    """Have auth revoke something, and return its answer."""
    return await ask(stack, "revoke", **what)


async def ask(stack: Stack, operation: str, **what: object) -> dict[str, Any]:
    """Return the answer of auth."""
    headers = {"authorization": f"Bearer {API_KEY}"}
    async with httpx.AsyncClient(trust_env=False, headers=headers, timeout=PATIENCE_S) as http:
        answer = await http.post(f"{stack.settings.auth_url}/v1/{operation}", json=what)
    answer.raise_for_status()
    said: dict[str, Any] = answer.json()
    return said


async def token(stack: Stack, user: str) -> str:
    """Return a token from auth."""
    return await anyio.to_thread.run_sync(lambda: stack.token(user))


@asynccontextmanager
async def bearer(stack: Stack, token: str, edge: int = 0, url: str = "") -> AsyncIterator[Client]:
    """Yield a client that shows this token and has been welcomed."""
    headers = {"Authorization": f"Bearer {token}"}
    url = url or stack.edge_urls[edge]
    async with connect(url, subprotocols=[SUBPROTOCOL], additional_headers=headers, proxy=None) as connection:
        with anyio.fail_after(PATIENCE_S):
            welcome = json.loads(await connection.recv())
        assert welcome["type"] == "welcome", welcome
        yield Client(connection, welcome)


async def refused(stack: Stack, token: str, edge: int = 0) -> int | None:
    """Return the code that a client with this token is closed with."""
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(stack.edge_urls[edge], subprotocols=[SUBPROTOCOL], additional_headers=headers, proxy=None) as connection:
        with anyio.fail_after(PATIENCE_S):
            await connection.wait_closed()
        return connection.close_code


async def closed_soon(*clients: Client) -> list[int | None]:
    """Return the codes of clients that are closed within a second from now."""
    watch = Stopwatch()
    with anyio.fail_after(PATIENCE_S):
        codes = [(await one.closed())[0] for one in clients]
    assert watch.own_s() < PROMPT_S
    return codes


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with two edges."""
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


async def test_a_user_s_sessions_end_and_a_new_token_is_good(stack: Stack) -> None:
    """On both edges, for good; others go on, and whoever has a token issued after the answer is in."""
    old = await token(stack, "ann")
    async with bearer(stack, old, 0) as one, bearer(stack, old, 1) as two, client(stack, "bob", 1) as other:
        watch = Stopwatch()
        assert (await revoke(stack, user="ann"))["before"] <= time.time()
        assert watch.own_s() < PROMPT_S + 1
        assert await closed_soon(one, two) == [4500, 4500]
        assert "revoked" in (one.connection.close_reason or "")
        for edge in (0, 1):
            assert await refused(stack, old, edge) == 4500
            async with client(stack, "ann", edge):
                pass
        await other.say(type="ping")
        await other.until("pong")
    assert await ask(stack, "verify", token=old) == {"active": False}


async def test_one_token_is_called_back(stack: Stack) -> None:
    """Its client is to fetch another; the user's other sessions go on. A newer token that is revoked extends nothing."""
    first, second, third = [await token(stack, "cat") for _ in range(3)]
    async with bearer(stack, first, 0) as one, bearer(stack, second, 1) as two:
        assert (await revoke(stack, token=first))["revoked"]
        assert await closed_soon(one) == [4003]
        assert await refused(stack, first, 1) == 4003
        await revoke(stack, token=third)
        await two.say(type="token", token=third)
        assert (await two.until("error"))["message"] == "token: the token has been revoked"
        await two.say(type="ping")
        await two.until("pong")


async def test_an_extended_session_is_judged_by_its_newer_token(stack: Stack) -> None:
    """The token before is of no account any more, and the newer one ends it."""
    first, second = [await token(stack, "dan") for _ in range(2)]
    async with bearer(stack, first) as dan:
        await dan.say(type="token", token=second)
        await dan.until("extended")
        await revoke(stack, token=first)
        await dan.say(type="ping")
        await dan.until("pong")
        await revoke(stack, token=second)
        assert await closed_soon(dan) == [4003]


async def test_everybody_s_tokens_before_a_time(stack: Stack) -> None:
    """Those who came later stay; and by the command, all go."""
    async with client(stack, "eve", 0) as early:
        before = int(time.time()) + 1
        await anyio.sleep(before - time.time())
        async with client(stack, "fay", 1) as late:
            assert (await revoke(stack, all=True, before=before))["before"] == before
            assert await closed_soon(early) == [4500]
            await late.say(type="ping")
            await late.until("pong")
            done = await anyio.to_thread.run_sync(run, stack, "revoke", "--all", "--json")
            assert len(json.loads(done.stdout)["nodes"]) == 2, done.stderr
            assert await closed_soon(late) == [4500]
    async with client(stack, "fay", 0):
        pass


async def test_the_client_library(stack: Stack) -> None:
    """It fetches another token where one was called back, without missing anything; where its user is out, it ends."""
    asked: list[str] = []
    got: list[object] = []
    ends: list[NotWelcome] = []
    welcomed: list[Status] = []

    async def get_token() -> str:
        asked.append(await token(stack, "lea"))
        return asked[-1]

    async def listen() -> None:
        async with ClientLibrary(stack.edge_urls, get_token, on_status=welcomed.append) as lea:
            try:
                async for message in lea:
                    got.append(message.body)  # noqa: PERF401 - looked at before it is over
            except NotWelcome as exc:
                ends.append(exc)

    def is_welcomed(times: int) -> bool:
        return sum(isinstance(status, Welcomed) for status in welcomed) == times

    with stack.redis_client() as redis:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await until(partial(is_welcomed, 1))
            await revoke(stack, token=asked[0])
            send(redis, "user:lea", "meanwhile")
            await until(partial(is_welcomed, 2))
            await until(lambda: got == ["meanwhile"])
            await revoke(stack, user="lea")
    assert (len(asked), len(ends)) == (2, 1)


@asynccontextmanager
async def cut_off(folder: Path, **settings: object) -> AsyncIterator[tuple[Stack, Link, Link]]:
    """Yield a system whose first edge reaches Redis and MongoDB by links in the test's hands."""
    stack = Stack(folder, settings={**QUICK, **settings})
    async with AsyncExitStack() as links:
        redis = await links.enter_async_context(Link("edge>redis", stack.redis.port))
        mongo = await links.enter_async_context(Link("edge>mongo", stack.store.port))
        stack.set(
            "edge-1",
            redis_url=f"redis://127.0.0.1:{redis.port}/0",
            mongo_url=f"mongodb://127.0.0.1:{mongo.port}/?directConnection=true",
        )
        try:
            await anyio.to_thread.run_sync(stack.start)
            yield stack, redis, mongo
        finally:
            await anyio.to_thread.run_sync(stack.end)


@pytest.mark.parametrize("trouble", [CUT, BLACK_HOLE], ids=["cut", "stalled"])
async def test_an_edge_that_was_cut_off_delivers_nothing_to_the_revoked(tmp_path: Path, trouble: Any) -> None:  # noqa: ANN401
    """It has been told nothing, and comes back to messages that wait: the revoked get none of them, others all."""
    async with cut_off(tmp_path) as (stack, redis_link, mongo_link), client(stack, "gil") as gil, client(stack, "hal") as hal:
        with stack.redis_client() as redis:
            await _message_arrives(redis, gil, hal)
            redis_link.suffer(trouble)
            mongo_link.suffer(trouble)
            await revoke(stack, user="gil")
            send(redis, "user:gil", "secret")
            send(redis, "user:hal", "late")
            send(redis, "all", "loud")
            await until(lambda: _stored(stack, "user:hal") == 2)
            mongo_link.recover(trouble)
            redis_link.recover(trouble)
            await hal.has("user:hal", "first", "late")
            await hal.has("all", "loud")
            assert (await gil.closed())[0] == 4500
            assert [message["body"] for message in gil.messages] == ["first"]


async def test_an_edge_that_is_cut_off_from_redis_alone_reads_the_list(tmp_path: Path) -> None:
    """Nobody tells it; it looks every `revocation_refresh_s`. And one that cannot read it is told."""
    async with (
        cut_off(tmp_path) as (stack, redis_link, mongo_link),
        client(stack, "ida") as ida,
        client(stack, "jon") as jon,
    ):
        redis_link.suffer(CUT)
        await revoke(stack, user="ida")
        assert await closed_soon(ida) == [4500]
        redis_link.recover(CUT)
        await until(lambda: stack["edge-1"].metric("pushway_probe_age_seconds") < 1)
        mongo_link.suffer(CUT)
        await revoke(stack, user="jon")
        assert await closed_soon(jon) == [4500]


async def test_after_the_grace_everyone_is_closed(tmp_path: Path) -> None:
    """To come again; nobody is let in until the list can be read, and then everybody is."""
    async with cut_off(tmp_path, revocation_grace_s=GRACE_S) as (stack, redis_link, mongo_link):
        async with client(stack, "kim") as kim:
            began_s, watch = time.monotonic(), Stopwatch()
            redis_link.suffer(CUT)
            mongo_link.suffer(CUT)
            assert (await kim.closed())[0] == 4001
            assert time.monotonic() - began_s > GRACE_S - 1
            assert watch.own_s() < GRACE_S + 2
        assert await refused(stack, await token(stack, "kim")) == 4001
        assert not stack["edge-1"].answers()
        mongo_link.recover(CUT)
        redis_link.recover(CUT)
        await until(stack["edge-1"].answers)
        async with client(stack, "kim"):
            pass


async def _message_arrives(redis: Redis, *clients: Client) -> None:
    for one in clients:
        send(redis, f"user:{one.user}", "first")
        await one.has(f"user:{one.user}", "first")


def _stored(stack: Stack, target: str) -> int:
    with stack.mongo_client() as mongo:
        return mongo[stack.settings.mongo_database].inbox.count_documents({"target": target})
