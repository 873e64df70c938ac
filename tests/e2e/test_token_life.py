"""Tokens that end while their sessions go on, on real servers: notices, newer tokens, and both client libraries with them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import httpx
import pytest
from redis import Redis

from edge.client import Client as ClientLibrary
from edge.client import Noticed, Parted, Status, Welcomed
from tests.browser import JS, NODE
from tests.e2e.audience import PATIENCE_S
from tests.e2e.clients import Client, client, send, until
from tests.stack import API_KEY, Stack

pytestmark = pytest.mark.anyio

NOTICE_S: Final = 2
EXTENSIONS: Final = 3
"""How many newer tokens a client library sends before its test is over."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with two edges."""
    settings = {"token_notice_s": NOTICE_S, "token_leeway_s": 0, "auth_timeout_s": 1.0}
    with Stack(tmp_path_factory.mktemp("stack"), settings=settings) as stack:
        yield stack


@pytest.fixture
def redis(stack: Stack) -> Iterator[Redis]:
    """Yield a client of the stack's Redis."""
    with stack.redis_client() as redis:
        yield redis


async def token(stack: Stack, user: str, **more: object) -> str:
    """Return a token from auth."""
    return await anyio.to_thread.run_sync(lambda: stack.token(user, **more))


async def refused(one: Client, token: str) -> str:
    """Send a token that does not do, and return the code of the answer."""
    await one.say(type="token", token=token)
    return str((await one.until("error"))["code"])


async def test_a_session_ends_with_its_token(stack: Stack) -> None:
    """The client is told, and in time: the close comes neither before it was said nor long behind."""
    async with client(stack, "ann", ttl_s=4) as ann:
        told = await ann.until("expiring")
        began_s = anyio.current_time()
        assert 0 < told["in_s"] <= NOTICE_S
        with anyio.fail_after(PATIENCE_S):
            await ann.connection.wait_closed()
        assert ann.connection.close_code == 4003
        assert anyio.current_time() - began_s > told["in_s"] - 0.5


async def test_a_newer_token_extends_the_session(stack: Stack, redis: Redis) -> None:
    """It lives beyond the first one's end, with all that it hears; those that do not do change nothing."""
    async with client(stack, "bob", ttl_s=5, topics=["news"]) as bob:
        await bob.subscribe("news")
        await bob.until("expiring")
        assert await refused(bob, "nonsense") == "bad_token"
        assert await refused(bob, await token(stack, "carol")) == "forbidden"
        await bob.say(type="token", token=await token(stack, "bob", ttl_s=5, topics=["news"]))
        assert 3 <= (await bob.until("extended"))["in_s"] <= 5
        # A second notice is of the second token: the first one's end is over by then.
        await bob.until("expiring")
        send(redis, "topic:news", "a")
        await bob.has("topic:news", "a")


async def test_a_newer_token_says_anew_what_is_heard(stack: Stack, redis: Redis) -> None:
    """What it does not grant ends, unless a back end keeps it; what it names begins."""
    topics = f"http://127.0.0.1:{stack.settings.api_port}/v1/users/dan/topics"
    async with httpx.AsyncClient(trust_env=False, headers={"authorization": f"Bearer {API_KEY}"}) as http:
        (await http.put(f"{topics}/kept")).raise_for_status()
    async with client(stack, "dan", topics=["news", "sport", "kept"]) as dan:
        await dan.until("subscribed")
        for topic in ("news", "sport", "kept"):
            await dan.subscribe(topic)
        await dan.say(type="token", token=await token(stack, "dan", topics=["sport"], subscribe=["room"]))
        await dan.until("extended")
        assert (await dan.until("unsubscribed"))["topic"] == "news"
        assert (await dan.until("error"))["code"] == "forbidden"
        assert (await dan.until("subscribed"))["topic"] == "room"
        for topic in ("news", "sport", "kept", "room"):
            send(redis, f"topic:{topic}", topic)
        for topic in ("sport", "kept", "room"):
            await dan.has(f"topic:{topic}", topic)
        assert dan.bodies("topic:news") == []


async def test_a_token_that_cannot_be_checked(stack: Stack) -> None:
    """Its key is not at hand and auth is away: the session goes on, and hears so."""
    async with client(stack, "eve", 1) as eve:
        stack["auth"].kill()
        try:
            assert await refused(eve, _OF_ANOTHER_KEY) == "unavailable"
            await eve.say(type="ping")
            await eve.until("pong")
        finally:
            stack["auth"].start()


_OF_ANOTHER_KEY: Final = (
    "eyJhbGciOiJFZERTQSIsImtpZCI6ImFub3RoZXIiLCJ0eXAiOiJKV1QifQ.e30." + "A" * 86  # {"alg":"EdDSA","kid":"another","typ":"JWT"}
)


async def test_python_goes_on_without_a_break(stack: Stack, redis: Redis) -> None:
    """Over several tokens' lives: one connection, every message."""
    told: list[Status] = []
    got: list[object] = []

    async def bearer() -> str:
        return await token(stack, "fay", ttl_s=5)

    async with ClientLibrary(stack.edge_urls, bearer, on_status=told.append) as fay:

        async def listen() -> None:
            async for message in fay:
                got.append(message.body)  # noqa: PERF401 - looked at before it is over

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            for number in range(EXTENSIONS):
                await until(partial(has_extended, told, number + 1))
                send(redis, "user:fay", str(number))
            await until(lambda: len(got) == EXTENSIONS)
            tasks.cancel_scope.cancel()
    assert got == ["0", "1", "2"]
    assert sum(isinstance(status, Welcomed) for status in told) == 1
    assert not any(isinstance(status, Parted) for status in told)


def has_extended(told: list[Status], times: int) -> bool:
    """Tell whether an edge has taken that many newer tokens."""
    return [status.frame["type"] for status in told if isinstance(status, Noticed)].count("extended") >= times


_LISTEN: Final = """
import { Client } from "%s";

const headers = { authorization: `Bearer ${process.env.KEY}`, "content-type": "application/json" };
const body = JSON.stringify({ user: "gil", ttl_s: 5 });
let asked = 0;
const client = new Client({
  urls: process.env.EDGES.split(","),
  token: async ({ fresh }) => {
    const answer = await fetch(`${process.env.AUTH}/v1/tokens`, { method: "POST", headers, body });
    console.log(JSON.stringify({ asked: (asked += 1), fresh }));
    return (await answer.json()).token;
  },
  onStatus: ({ type }) => console.log(JSON.stringify({ status: type })),
});
for await (const message of client) {
  console.log(JSON.stringify({ had: message.body }));
  if (message.body === "last") break;
}
await client.close();
"""


async def test_javascript_goes_on_without_a_break(stack: Stack, redis: Redis, tmp_path: Path) -> None:
    """The same."""
    program, said = tmp_path / "listen.mjs", tmp_path / "said"
    program.write_text(_LISTEN % (JS / "pushway.js"), encoding="utf-8")
    given = {"KEY": API_KEY, "EDGES": ",".join(stack.edge_urls), "AUTH": stack.settings.auth_url}
    with said.open("w", encoding="utf-8") as out:
        async with await anyio.open_process([NODE, program], stdout=out, stderr=out, env={**os.environ, **given}) as node:
            try:
                # One that is asked for says that the one before it was taken.
                await until(lambda: said.read_text(encoding="utf-8").count('"fresh":true') > EXTENSIONS)
                send(redis, "user:gil", "last")
                with anyio.fail_after(PATIENCE_S):
                    assert await node.wait() == 0
            finally:
                if node.returncode is None:
                    node.kill()
    lines = [json.loads(line) for line in said.read_text(encoding="utf-8").splitlines()]
    statuses = [line["status"] for line in lines if "status" in line]
    assert (statuses.count("connecting"), statuses.count("open"), statuses.count("error")) == (1, 1, 0), lines
    assert {"had": "last"} in lines
