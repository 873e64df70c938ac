"""edge/js on the whole system: in Chromium and in Node, over killed edges, reloads, and pages that share a connection."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import anyio
import pytest
from anyio.streams.text import TextReceiveStream
from playwright.async_api import BrowserContext, Page

from tests.browser import JS, NODE, chromium, needs_chromium, origin
from tests.e2e.audience import Producer
from tests.servers import wait_until
from tests.stack import Stack

pytestmark = pytest.mark.anyio

TIMEOUT_S: Final = 60.0
QUICK: Final = {"lease_ms": 1_000, "node_ttl_ms": 2_000, "redis_timeout_s": 2.0, "token_leeway_s": 0, "cursor_flush_s": 0.1}

_OPEN: Final = """
async ({ options, token, kept, cursors }) => {
    const { Client, localStorageCursors } = await import("/pushway.js");
    Object.assign(window, { numbers: [], heard: {}, statuses: [], wishes: [] });
    window.client = new Client({
        token: async ({ fresh }) => (window.wishes.push(fresh), fresh || kept === null ? token : kept),
        onMessage: async ({ to, body }) => {
            window.numbers.push(body.n);
            (window.heard[to] ??= []).push(body.n);
            if (window.handlingMs) await new Promise((done) => setTimeout(done, window.handlingMs));
        },
        onStatus: (status) => window.statuses.push(status),
        pauses: { minMs: 20, maxMs: 200 },
        ...(cursors === null ? {} : { cursors: localStorageCursors(cursors) }),
        ...options,
    });
    window.client.start();
}
"""

_NODE: Final = """
import { Client } from "%s/pushway.js";
const onStatus = ({ type, node }) => type === "open" && console.log(node);
const client = new Client({ urls: %s, token: () => "%s", device: "node", onStatus, pauses: { minMs: 20, maxMs: 200 } });
for await (const { body } of client) console.log(body.n);
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with two edges and short timeouts."""
    with Stack(tmp_path_factory.mktemp("stack"), settings=QUICK) as stack:
        yield stack


@pytest.fixture
def user() -> str:
    """Return somebody who has no other test's messages."""
    return f"user-{uuid4().hex[:8]}"


@asynccontextmanager
async def browsing() -> AsyncIterator[BrowserContext]:
    """Yield a profile in a Chromium, within this file's patience."""
    with anyio.fail_after(TIMEOUT_S):
        with origin() as address:
            async with chromium() as browser:
                context = await browser.new_context(base_url=address)
                context.set_default_timeout(TIMEOUT_S * 1_000)
                yield context


async def visit(
    context: BrowserContext,
    stack: Stack,
    user: str,
    *,
    kept: str | None = None,
    cursors: str | None = None,
    **options: Any,  # noqa: ANN401
) -> Page:
    """Open a page whose client listens for a user.

    Args:
        context: the profile.
        stack: the system.
        user: whom the token is for.
        kept: a token to show unless a fresh one is asked for.
        cursors: the name of cursors in localStorage.
        options: the client's own.
    """
    page = await context.new_page()
    await page.goto("/")
    await listen(page, stack, user, kept=kept, cursors=cursors, **options)
    return page


async def listen(
    page: Page,
    stack: Stack,
    user: str,
    *,
    kept: str | None = None,
    cursors: str | None = None,
    **options: Any,  # noqa: ANN401
) -> None:
    """Start the client in a page, and return when it is open; topics that begin with the user's name are granted."""
    token = await anyio.to_thread.run_sync(lambda: stack.token(user, topics=[f"{user}*"]))
    wishes = {"urls": list(stack.edge_urls), **options}
    await page.evaluate(_OPEN, {"options": wishes, "token": token, "kept": kept, "cursors": cursors})
    await status(page, "open")


async def status(page: Page, kind: str) -> dict[str, Any]:
    """Return the last status of a kind, when there is one."""
    found = await page.wait_for_function("kind => window.statuses.findLast((status) => status.type === kind)", arg=kind)
    told: dict[str, Any] = await found.json_value()
    return told


async def received(page: Page, count: int) -> list[int]:
    """Return the numbers a page has had, when there are so many."""
    await page.wait_for_function("count => window.numbers.length >= count", arg=count)
    numbers: list[int] = await page.evaluate("window.numbers")
    return numbers


async def heard(page: Page, target: str, count: int) -> list[int]:
    """Return the numbers that a page has had of a target, when there are so many."""
    found = await page.wait_for_function(
        "([target, count]) => (window.heard[target] ?? []).length >= count && window.heard[target]", arg=[target, count]
    )
    numbers: list[int] = await found.json_value()
    return numbers


async def role(page: Page, expected: str) -> None:
    """Return when a page has that role."""
    await page.wait_for_function("role => window.client.role === role", arg=expected)


async def edge_of(page: Page) -> str:
    """Return the name of the edge that a page is connected to."""
    return edge_name((await status(page, "open"))["node"])


def edge_name(node: str) -> str:
    """Return the name in the stack of the edge that calls itself so."""
    return node.partition(".")[0]


@asynccontextmanager
async def killed(stack: Stack, edge: str) -> AsyncIterator[None]:
    """Kill an edge (SIGKILL) for the time of the block."""
    stack[edge].kill()
    try:
        yield
    finally:
        stack[edge].launch()
        await anyio.to_thread.run_sync(stack[edge].wait_ready)


def connections(stack: Stack) -> float:
    """Return how many connections both edges hold."""
    return sum(stack[edge].metric("pushway_connections") for edge in ("edge-1", "edge-2"))


async def until_connections(stack: Stack, expected: int) -> None:
    """Return when both edges hold so many connections in sum."""
    await anyio.to_thread.run_sync(wait_until, lambda: connections(stack) == expected, f"{expected} connections")


@needs_chromium
async def test_nothing_is_lost_or_twice_when_its_edge_is_killed(stack: Stack, user: str) -> None:
    """Killed under traffic, the edge is left for the other; the page has every message once, in order."""
    producer = Producer(stack, (user,))
    async with browsing() as context, anyio.create_task_group() as tasks:
        page = await visit(context, stack, user, device="laptop")
        stop = anyio.Event()
        tasks.start_soon(lambda: producer.send_until(stop, pause_s=0.003))
        await received(page, 50)
        first = await edge_of(page)
        async with killed(stack, first):
            await page.wait_for_function("window.statuses.filter(({ type }) => type === 'open').length === 2")
            assert await edge_of(page) != first
            await received(page, 200)
            stop.set()
        await producer.send(1)
        assert await received(page, len(producer.sent[user])) == producer.sent[user]


@needs_chromium
async def test_topics_and_all_over_a_killed_edge(stack: Stack, user: str) -> None:
    """A page without a device has each message of a topic and of all once, in order, whichever edge it is on."""
    producer = Producer(stack, (user,), kind="topic")
    to = f"topic:{user}"
    async with browsing() as context, anyio.create_task_group() as tasks:
        page = await visit(context, stack, user)
        await page.evaluate("topic => window.client.subscribe(topic)", user)
        await status(page, "subscribed")
        stop, sent = anyio.Event(), anyio.Event()

        async def traffic() -> None:
            await producer.send_until(stop, pause_s=0.003)
            sent.set()

        tasks.start_soon(traffic)
        await heard(page, to, 50)
        first = await edge_of(page)
        async with killed(stack, first):
            send_to_all(stack, 3)
            await page.wait_for_function("window.statuses.filter(({ type }) => type === 'subscribed').length === 2")
            assert await edge_of(page) != first
            await heard(page, to, 200)
            stop.set()
            await sent.wait()
        await producer.send(1)
        assert await heard(page, to, len(producer.sent[user])) == producer.sent[user]
        assert await heard(page, "all", 3) == [0, 1, 2]
        await page.evaluate("topic => window.client.unsubscribe(topic)", user)
        await producer.send(1)
        send_to_all(stack, 1)
        await heard(page, "all", 4)
        assert await heard(page, to, 1) == producer.sent[user][:-1]


def send_to_all(stack: Stack, messages: int) -> None:
    """Append so many messages to everybody, numbered from 0."""
    with stack.redis_client() as redis:
        for number in range(messages):
            redis.xadd("push:{0}:in", {"to": "all", "body": json.dumps({"n": number})})


@needs_chromium
async def test_offline_and_online_again(stack: Stack, user: str) -> None:
    """A network that goes and comes back costs no message, and `online` makes the next try at once."""
    producer = Producer(stack, (user,))
    async with browsing() as context:
        page = await visit(context, stack, user, pauses={"minMs": 3_600_000, "maxMs": 3_600_000})
        await producer.send(3)
        await received(page, 3)
        await context.set_offline(offline=True)
        async with killed(stack, await edge_of(page)):
            await status(page, "waiting")
            await producer.send(3)
            await context.set_offline(offline=False)
            assert await received(page, 6) == producer.sent[user]


@needs_chromium
async def test_a_frozen_edge_is_noticed_when_the_page_is_looked_at(stack: Stack, user: str) -> None:
    """A connection that stands and is dead is probed on `online`, and left when no answer comes."""
    producer = Producer(stack, (user,))
    async with browsing() as context:
        page = await visit(context, stack, user, timeouts={"pongMs": 300})
        frozen = stack[await edge_of(page)]
        frozen.pause()
        try:
            await producer.send(2)
            await page.evaluate("window.dispatchEvent(new Event('online'))")
            assert await received(page, 2) == producer.sent[user]
        finally:
            frozen.resume()


@needs_chromium
async def test_a_reload_goes_on_where_the_page_was(stack: Stack, user: str) -> None:
    """Cursors in localStorage: what came while the page was away is there after the reload, and nothing again."""
    producer = Producer(stack, (user,))
    async with browsing() as context:
        page = await visit(context, stack, user, cursors=user)
        await producer.send(3)
        assert await received(page, 3) == [0, 1, 2]
        await page.goto("about:blank")
        await producer.send(2)
        await page.goto("/")
        await listen(page, stack, user, cursors=user)
        await status(page, "caught_up")
        await producer.send(1)
        assert await received(page, 3) == [3, 4, 5]


@needs_chromium
async def test_a_page_in_the_browser_s_cache_gives_up_its_place_and_comes_back(stack: Stack, user: str) -> None:
    """Put away, a page has no connection and another tab leads; brought back, it has all that came meanwhile, once."""
    producer = Producer(stack, (user,))
    async with browsing() as context:
        away = await visit(context, stack, user, shared=user)
        stays = await visit(context, stack, user, shared=user)
        await producer.send(2)
        await received(away, 2)
        await away.evaluate("window.dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
        await role(stays, "leader")
        await producer.send(2)
        await received(stays, 4)
        assert await away.evaluate("window.numbers") == [0, 1]
        await away.evaluate("window.dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
        assert await received(away, 4) == producer.sent[user]
        await role(away, "follower")
        assert await received(stays, 4) == producer.sent[user]


@needs_chromium
async def test_more_was_missed_than_a_page_may_hold(stack: Stack, user: str) -> None:
    """A slow handler behind a long replay: the page lets go and comes back until it has all of it, in order, once."""
    producer = Producer(stack, (user,))
    await producer.send(1_000)
    async with browsing() as context:
        page = await context.new_page()
        await page.goto("/")
        await page.evaluate("user => localStorage.setItem(`pushway:${user}`, JSON.stringify({ [`user:${user}`]: 0 }))", user)
        await page.evaluate("window.handlingMs = 2")
        await listen(page, stack, user, cursors=user, device="slow", backlog={"messages": 200})
        assert await received(page, 1_000) == producer.sent[user]
        assert await page.evaluate("window.statuses.some(({ type }) => type === 'paused')")


@needs_chromium
@pytest.mark.parametrize("how", ["closed", "crashed"])
async def test_tabs_share_a_connection_and_hand_it_over(stack: Stack, user: str, how: str) -> None:
    """Two tabs, one connection; the leader goes under traffic, the other takes over; nothing is lost, nothing comes twice."""
    producer = Producer(stack, (user,))
    await until_connections(stack, 0)
    async with browsing() as context, anyio.create_task_group() as tasks:
        wishes = {"shared": user, "device": "browser", "cursors": user}
        leader = await visit(context, stack, user, **wishes)
        await role(leader, "leader")
        follower = await visit(context, stack, user, **wishes)
        await role(follower, "follower")
        stop, sent = anyio.Event(), anyio.Event()

        async def traffic() -> None:
            await producer.send_until(stop, pause_s=0.005)
            sent.set()

        tasks.start_soon(traffic)
        had = await received(leader, 40)
        assert had[:40] == producer.sent[user][:40]
        await received(follower, 40)
        assert await anyio.to_thread.run_sync(connections, stack) == 1
        if how == "closed":
            await leader.close()
        else:
            await crash(context, leader)
        await role(follower, "leader")
        await received(follower, 200)
        stop.set()
        # Two appends on two connections would be in no order.
        await sent.wait()
        await producer.send(1)
        assert await received(follower, len(producer.sent[user])) == producer.sent[user]
        await until_connections(stack, 1)


@needs_chromium
@pytest.mark.parametrize("how", ["closed", "crashed"])
async def test_tabs_of_one_connection_have_topics_of_their_own(stack: Stack, user: str, how: str) -> None:
    """The leader goes: the other's topic goes on where it was, and the leader's own is heard no longer."""
    mine, other = f"{user}-a", f"{user}-b"
    producer = Producer(stack, (mine, other), kind="topic")
    await until_connections(stack, 0)
    async with browsing() as context:
        leader = await visit(context, stack, user, shared=user, topics=[mine])
        await role(leader, "leader")
        follower = await visit(context, stack, user, shared=user, topics=[other])
        for page in (leader, follower):
            await status(page, "subscribed")
        await producer.send(20)
        assert await heard(leader, f"topic:{mine}", 10) == producer.sent[mine]
        assert await heard(follower, f"topic:{other}", 10) == producer.sent[other]
        assert await anyio.to_thread.run_sync(connections, stack) == 1
        if how == "closed":
            await leader.close()
        else:
            await crash(context, leader)
        await producer.send(20)
        assert await heard(follower, f"topic:{other}", 20) == producer.sent[other]
        assert await follower.evaluate("Object.keys(window.heard)") == [f"topic:{other}"]
        await until_connections(stack, 1)


async def crash(context: BrowserContext, page: Page) -> None:
    """Kill the process that a page runs in."""
    session = await context.new_cdp_session(page)
    async with anyio.create_task_group() as tasks:
        crashed = anyio.Event()
        page.on("crash", lambda _page: crashed.set())
        tasks.start_soon(_ask_to_crash, session)
        await crashed.wait()
        tasks.cancel_scope.cancel()


async def _ask_to_crash(session: Any) -> None:  # noqa: ANN401 - what Playwright gives has no types of the protocol
    await session.send("Page.crash")


@needs_chromium
async def test_replaced_by_a_newer_session_it_stays_away(stack: Stack, user: str) -> None:
    """4502: the older page is told, closed for good, and makes no further try."""
    async with browsing() as context:
        older = await visit(context, stack, user, device="laptop")
        newer = await visit(context, stack, user, device="laptop")
        assert (await status(older, "closed"))["code"] == 4502
        await Producer(stack, (user,)).send(1)
        assert await received(newer, 1) == [0]
        assert await older.evaluate("[window.client.role, window.numbers]") == [None, []]
        assert await newer.evaluate("window.client.role") == "alone"


@needs_chromium
async def test_an_expired_token_is_replaced_by_a_fresh_one(stack: Stack, user: str) -> None:
    """4003: the next token is asked for as a fresh one, and with it the session opens."""
    kept = await anyio.to_thread.run_sync(lambda: stack.token(user, ttl_s=1))
    await anyio.sleep(1.1)  # the only wait for a time: what is tested is that it passes
    async with browsing() as context:
        page = await visit(context, stack, user, kept=kept)
        assert (await status(page, "waiting"))["code"] == 4003
        assert await page.evaluate("window.wishes") == [False, True]


async def test_in_node_over_a_killed_edge(stack: Stack, user: str, tmp_path: Path) -> None:
    """The same module iterates in Node, over the kill of its edge, with the sockets that are built in."""
    producer = Producer(stack, (user,))
    token = await anyio.to_thread.run_sync(stack.token, user)
    program = tmp_path / "listen.mjs"
    program.write_text(_NODE % (JS, json.dumps(stack.edge_urls), token), encoding="utf-8")
    with anyio.fail_after(TIMEOUT_S):
        async with await anyio.open_process([str(NODE), str(program)]) as process:
            assert process.stdout is not None
            lines = _lines(TextReceiveStream(process.stdout))
            # A new device begins where the head is when it is welcome; an edge counts the session before it asks for that.
            first = edge_name(await anext(lines))
            await producer.send(20)
            had = [int(await anext(lines)) for _ in range(20)]
            async with killed(stack, first):
                await producer.send(20)
                assert edge_name(await anext(lines)) != first
                had += [int(await anext(lines)) for _ in range(20)]
            os.kill(process.pid, signal.SIGTERM)
    assert had == producer.sent[user]


async def _lines(stream: TextReceiveStream) -> AsyncIterator[str]:
    rest = ""
    async for text in stream:
        *whole, rest = (rest + text).split("\n")
        for line in whole:
            yield line


@needs_chromium
async def test_who_else_is_there(stack: Stack, user: str) -> None:
    """A page that asks for presence hears who has subscribed to a topic, on whichever edge, and who comes and goes."""
    room, guest, urls = f"{user}-room", f"{user}-guest", stack.edge_urls
    async with browsing() as context:
        watching = await visit(context, stack, user, urls=[urls[0]])
        await watching.evaluate("room => window.client.subscribe(room, { presence: true })", room)
        assert (await status(watching, "members"))["users"] == [user]
        token = await anyio.to_thread.run_sync(lambda: stack.token(guest, topics=[room]))
        other = await context.new_page()
        await other.goto("/")
        wishes = {"urls": [urls[1]], "topics": [room]}
        await other.evaluate(_OPEN, {"options": wishes, "token": token, "kept": None, "cursors": None})
        assert (await status(watching, "joined"))["user"] == guest
        await other.close()
        assert (await status(watching, "left"))["user"] == guest
