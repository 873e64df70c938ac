"""router.api.page on the whole system: two people in Chromium, and what must not reach the page."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
import httpx
import pytest
from playwright.async_api import Locator, Page, expect

from router.settings import Settings
from tests.browser import chromium, needs_chromium
from tests.servers import free_ports
from tests.stack import Stack

pytestmark = pytest.mark.anyio

TIMEOUT_S: Final = 60.0
PHONE: Final = {"width": 375, "height": 700}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with two edges, as `up` runs it."""
    with Stack(tmp_path_factory.mktemp("stack"), settings={"lease_ms": 1_000, "node_ttl_ms": 2_000}) as stack:
        yield stack


@pytest.fixture
def address(stack: Stack) -> str:
    """Return the root of the API."""
    return f"http://127.0.0.1:{stack.settings.api_port}"


@asynccontextmanager
async def opened(address: str) -> AsyncIterator[Page]:
    """Yield the page when both panes are connected; it has made no mistake at the end."""
    with anyio.fail_after(TIMEOUT_S):
        async with chromium() as browser:
            page = await browser.new_page()
            mistakes: list[object] = []
            page.on("pageerror", lambda mistake: mistakes.append(mistake))  # noqa: PLW0108 - Playwright sets attributes on it
            expect.set_options(timeout=TIMEOUT_S * 1_000)
            await page.goto(address)
            for pane in (pane_of(page, 1), pane_of(page, 2)):
                await expect(pane).to_have_attribute("data-state", "open")
            yield page
            assert mistakes == []


def pane_of(page: Page, number: int) -> Locator:
    """Return the first or the second pane."""
    return page.get_by_role("region", name=f"Pane {number}")


async def send(pane: Locator, content: str) -> None:
    """Send with the keyboard alone."""
    await pane.get_by_label("Message").fill(content)
    await pane.get_by_label("Message").press("Enter")


async def send_to(pane: Locator, target: str, content: str) -> None:
    """Send to somebody else than the pane was for."""
    await pane.get_by_label("To").fill(target)
    await send(pane, content)


async def name_user(pane: Locator, user: str) -> None:
    """Type a name, press Enter, and wait until they are connected."""
    await pane.get_by_label("User").fill(user)
    await pane.get_by_label("User").press("Enter")
    await expect(pane.get_by_role("status")).to_contain_text(f"connected as {user}")


def messages(pane: Locator) -> Locator:
    """Return the messages in a pane."""
    return pane.locator(".messages .content")


@needs_chromium
async def test_both_panes_send_and_receive_over_the_kill_of_their_edge(stack: Stack, address: str) -> None:
    """Each is on its own edge; one edge is killed, its pane goes to the other, and every message is there once."""
    async with opened(address) as page:
        alice, bob = pane_of(page, 1), pane_of(page, 2)
        await expect(alice.locator(".node")).to_contain_text("edge-1.")
        await expect(bob.locator(".node")).to_contain_text("edge-2.")
        await send(alice, '{"text":"hello bob"}')
        await send(bob, "hello alice, in plain text")
        await expect(messages(bob)).to_have_text(["hello bob"])
        await expect(messages(alice)).to_have_text(["hello alice, in plain text"])
        stack["edge-1"].kill()
        try:
            await send(bob, '{"are":["you","there"]}')
            await expect(alice.locator(".node")).to_contain_text("edge-2.")
            await expect(messages(alice)).to_have_text(["hello alice, in plain text", '{"are":["you","there"]}'])
        finally:
            stack["edge-1"].launch()
            await anyio.to_thread.run_sync(stack["edge-1"].wait_ready)


@needs_chromium
async def test_the_lines_to_copy_do_what_the_box_does(address: str) -> None:
    """What is written into the box stands in both lines, quotes and all; the curl line, pasted, delivers it."""
    async with opened(address) as page:
        alice, bob = pane_of(page, 1), pane_of(page, 2)
        await alice.get_by_label("Message").fill('it\'s "so"; $HOME & `all`')
        xadd = shlex.split(await alice.locator(".xadd").inner_text())
        assert xadd[:1] + xadd[3:] == [
            "redis-cli",
            "XADD",
            "push:{0}:in",
            "*",
            "to",
            "user:bob",
            "text",
            'it\'s "so"; $HOME & `all`',
        ]
        line = await alice.locator(".curl").inner_text()
        command = ["curl", "--silent", "--noproxy", "*", *shlex.split(line)[1:]]
        await anyio.run_process(command, stderr=subprocess.STDOUT)
        await expect(messages(bob)).to_have_text(['it\'s "so"; $HOME & `all`'])


@needs_chromium
async def test_users_and_edges_are_chosen(address: str) -> None:
    """Another user or another edge is connected to at once; disconnecting is one key."""
    async with opened(address) as page:
        alice = pane_of(page, 1)
        await alice.get_by_label("Edge").select_option("1")
        await expect(alice.locator(".node")).to_contain_text("edge-2.")
        await alice.get_by_label("User").fill("carol")
        await alice.get_by_label("User").press("Tab")
        await expect(alice.get_by_role("status")).to_contain_text("connected as carol")
        await send(pane_of(page, 2), "for nobody")
        await pane_of(page, 2).get_by_label("To").fill("user:carol")
        await send(pane_of(page, 2), "for carol")
        await expect(messages(alice)).to_have_text(["for carol"])
        await alice.get_by_role("button", name="Disconnect").press("Enter")
        await expect(alice).to_have_attribute("data-state", "closed")


@needs_chromium
async def test_enter_connects_another_user(address: str) -> None:
    """Enter behind a new name connects them, also where nobody was; behind the name that is connected it disconnects."""
    async with opened(address) as page:
        alice = pane_of(page, 1)
        await name_user(alice, "dora")
        await send_to(pane_of(page, 2), "user:dora", "for dora")
        await expect(messages(alice)).to_have_text(["for dora"])
        await alice.get_by_label("User").press("Enter")
        await expect(alice).to_have_attribute("data-state", "closed")
        await name_user(alice, "emil")
        await expect(alice.get_by_role("button", name="Disconnect")).to_be_visible()


@needs_chromium
async def test_connect_does_what_it_says_behind_a_new_name(address: str) -> None:
    """A click on Connect, with a name just typed, connects them and leaves it so."""
    async with opened(address) as page:
        alice = pane_of(page, 1)
        await alice.get_by_role("button", name="Disconnect").click()
        await expect(alice).to_have_attribute("data-state", "closed")
        await alice.get_by_label("User").fill("dora")
        await alice.get_by_role("button", name="Connect", exact=True).click()
        await expect(alice.get_by_role("status")).to_contain_text("connected as dora")


@needs_chromium
async def test_what_came_while_disconnected_is_shown(address: str) -> None:
    """Connect, and the choice of another edge, go on where the pane was: nothing is missed, nothing shown twice."""
    async with opened(address) as page:
        alice, bob = pane_of(page, 1), pane_of(page, 2)
        await send(bob, "first")
        await expect(messages(alice)).to_have_text(["first"])
        await alice.get_by_role("button", name="Disconnect").click()
        await expect(alice).to_have_attribute("data-state", "closed")
        await send(bob, "second")
        await expect(bob.get_by_label("Message")).to_have_value("")
        await alice.get_by_role("button", name="Connect", exact=True).click()
        await expect(messages(alice)).to_have_text(["first", "second"])
        await alice.get_by_role("button", name="Disconnect").click()
        await expect(alice).to_have_attribute("data-state", "closed")
        await send(bob, "third")
        await expect(bob.get_by_label("Message")).to_have_value("")
        await alice.get_by_label("Edge").select_option("1")
        await expect(messages(alice)).to_have_text(["first", "second", "third"])


@needs_chromium
async def test_a_user_who_is_none_is_told_why(address: str) -> None:
    """An id that breaks the rule gets the rule in words, for as long as it stands there."""
    async with opened(address) as page:
        pane = pane_of(page, 1)
        await pane.get_by_label("User").fill("a b")
        await pane.get_by_label("User").press("Enter")
        await expect(pane.get_by_role("alert")).to_contain_text("'a b' is not an id")
        await name_user(pane, "dora")
        await expect(pane.get_by_role("alert")).to_be_hidden()


@needs_chromium
async def test_what_breaks_a_rule_is_told(address: str) -> None:
    """A target that is none is refused with the rule in words."""
    async with opened(address) as page:
        pane = pane_of(page, 1)
        await pane.get_by_label("To").fill("nobody")
        await send(pane, "hello")
        await expect(pane.get_by_role("alert")).to_contain_text("user:")


@needs_chromium
async def test_it_fits_a_phone(address: str) -> None:
    """At 375 pixels nothing has to be scrolled sideways, and the panes stand one above the other."""
    async with opened(address) as page:
        await page.set_viewport_size({"width": 375, "height": 700})
        assert await page.evaluate("document.documentElement.scrollWidth") <= 375
        boxes = [await pane_of(page, number).bounding_box() for number in (1, 2)]
        assert boxes[0] is not None
        assert boxes[1] is not None
        assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example", "content-type": "application/json"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
    ],
)
@pytest.mark.parametrize("path", ["/page/token", "/page/send"])
def test_sites_that_a_developer_visits_reach_neither(address: str, path: str, headers: dict[str, str], status: int) -> None:
    """A name that leads here, and what a page may send elsewhere unasked, get no token and append nothing."""
    answer = httpx.post(address + path, headers=headers, content='{"user":"alice"}', trust_env=False)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "wish", ["", "[]", '{"user":1}', '{"user":"a b"}', '{"user":"alice","more":1}', '"\ud800"', '{"user":"\\ud800"}']
)
def test_a_token_for_nobody_is_refused(address: str, wish: str) -> None:
    """What is no user is a problem of the request."""
    content = wish.encode(errors="surrogatepass")
    answer = httpx.post(f"{address}/page/token", headers={"content-type": "application/json"}, content=content, trust_env=False)
    assert answer.status_code == 400


def test_without_the_setting_there_is_no_page(stack: Stack) -> None:
    """A collect that was not told to serve the page has nothing at its root; nothing but `up` tells it."""
    plain = stack.another("collect", "collect-plain", api_port=free_ports(), api_page=False)
    plain.start()
    try:
        port = dict(word.split("=") for word in plain.spec.command if "=" in word)["api_port"]
        for path in ("/", "/page/pushway.js", "/page/places"):
            assert httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False).status_code == 404
    finally:
        plain.stop()
    assert not Settings().api_page
