"""router.api.page on the whole system: two people in Chromium, and what must not reach the page."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import httpx
import pytest
from playwright.async_api import Locator, expect

from router.settings import Settings
from tests.browser import needs_chromium
from tests.e2e.two_panes import box_of, browsing, connected, messages, opened, pane_of, send, send_to, sent
from tests.servers import free_ports
from tests.stack import API_KEY, Stack

pytestmark = pytest.mark.anyio

AWKWARD: Final = 'it\'s "so"; $HOME & `all`'


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with two edges, as `up` runs it."""
    with Stack(tmp_path_factory.mktemp("stack"), settings={"lease_ms": 1_000, "node_ttl_ms": 2_000}) as stack:
        yield stack


@pytest.fixture
def address(stack: Stack) -> str:
    """Return the root of the API."""
    return f"http://127.0.0.1:{stack.settings.api_port}"


async def name_user(pane: Locator, user: str) -> None:
    """Type a name, press Enter, and wait until they are connected."""
    await pane.get_by_label("User").fill(user)
    await pane.get_by_label("User").press("Enter")
    await expect(pane.get_by_role("status")).to_contain_text(f"connected as {user}")


@asynccontextmanager
async def killed(stack: Stack, name: str) -> AsyncIterator[None]:
    """Have an edge killed within."""
    stack[name].kill()
    try:
        yield
    finally:
        stack[name].launch()
        await anyio.to_thread.run_sync(stack[name].wait_ready)


@needs_chromium
async def test_both_panes_send_and_receive_over_the_kill_of_their_edge(stack: Stack, address: str) -> None:
    """Each is on its own edge; each edge is killed, its pane goes to the other, and every message is there once."""
    async with opened(address) as page:
        alice, bob = pane_of(page, 1), pane_of(page, 2)
        await expect(alice.locator(".node")).to_contain_text("edge-1.")
        await expect(bob.locator(".node")).to_contain_text("edge-2.")
        await send(alice, '{"text":"hello bob"}')
        await send(bob, "hello alice, in plain text")
        await expect(messages(bob)).to_have_text(["hello bob"])
        await expect(messages(alice)).to_have_text(["hello alice, in plain text"])
        async with killed(stack, "edge-1"):
            await send(bob, '{"are":["you","there"]}')
            await expect(alice.get_by_role("status")).to_contain_text("edge-1 is away; connected as alice to edge-2.")
            await expect(messages(alice)).to_have_text(["hello alice, in plain text", '{"are":["you","there"]}'])
            notes = ["alice is on edge-1.", "alice is no longer on edge-1.", "alice is on edge-2."]
            await expect(alice.locator(".note")).to_contain_text(notes)
        async with killed(stack, "edge-2"):
            await send(alice, "and you?")
            for pane in (alice, bob):
                await expect(pane.locator(".node")).to_contain_text("edge-1.")
            await expect(bob.get_by_role("status")).to_contain_text("edge-2 is away")
            await expect(alice.get_by_role("status")).not_to_contain_text("away")
            await expect(messages(bob)).to_have_text(["hello bob", "and you?"])


@needs_chromium
async def test_the_lines_to_copy_do_what_the_box_does(stack: Stack, address: str, tmp_path: Path) -> None:
    """What is written into the box stands in both, quotes and all; those with curl, pasted in the folder of `up`, deliver it.

    The key is read where it is, and does not stand on the page.
    """
    (tmp_path / ".pushway").symlink_to(stack.config.parent)
    async with opened(address) as page:
        alice, bob = pane_of(page, 1), pane_of(page, 2)
        await box_of(alice).fill(AWKWARD)
        xadd = shlex.split(await alice.locator(".xadd").inner_text())
        assert xadd[:1] + xadd[3:] == ["redis-cli", "XADD", "push:{0}:in", "*", "to", "user:bob", "text", AWKWARD]
        assert API_KEY not in await page.content()
        lines = await alice.locator(".curl").inner_text()
        answer = await anyio.run_process(["sh", "-c", lines], cwd=tmp_path, env=os.environ | {"no_proxy": "*"})
        assert json.loads(answer.stdout)["to"] == ["user:bob"]
        await expect(messages(bob)).to_have_text([AWKWARD])
        assert await bob.locator(".came .seq").inner_text() != "transient"


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
        await expect(sent(bob, "second")).to_contain_text("API answered")
        await alice.get_by_role("button", name="Connect", exact=True).click()
        await expect(messages(alice)).to_have_text(["first", "second"])
        await alice.get_by_role("button", name="Disconnect").click()
        await expect(alice).to_have_attribute("data-state", "closed")
        await send(bob, "third")
        await expect(sent(bob, "third")).to_contain_text("API answered")
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
    """A target that is none is refused with the rule in words; what was written is there again, and nothing looks sent."""
    async with opened(address) as page:
        pane = pane_of(page, 1)
        await send_to(pane, "nobody", "hello")
        await expect(pane.get_by_role("alert")).to_contain_text("user:")
        await expect(pane.get_by_label("To")).to_have_attribute("aria-invalid", "true")
        await expect(box_of(pane)).to_have_value("hello")
        await expect(pane.locator(".sent")).to_have_count(0)
        await pane.get_by_label("To").fill("user:bob")
        await expect(pane.get_by_label("To")).to_have_attribute("aria-invalid", "false")
        await box_of(pane).press("Enter")
        await expect(messages(pane_of(page, 2))).to_have_text(["hello"])
        await expect(pane.get_by_role("alert")).to_be_hidden()


@needs_chromium
async def test_the_way_of_a_message_is_told(address: str) -> None:
    """Where it was sent it says how long it took to be taken and shown; where it came, how long it was under way."""
    async with opened(address) as page:
        alice, bob = pane_of(page, 1), pane_of(page, 2)
        await send_to(alice, "user:alice,user:bob", "to both")
        way = sent(alice, "to both").get_by_role("listitem")
        for stage in (r"^API answered [\d.]+ m?s$", r"^shown to alice [\d.]+ m?s$", r"^shown to bob [\d.]+ m?s$"):
            await expect(way.filter(has_text=re.compile(stage))).to_have_count(1)
        await expect(bob.locator(".came .took")).to_have_text(re.compile(r"^\+[\d.]+ m?s$"))


@needs_chromium
async def test_an_api_that_is_away_is_told(address: str) -> None:
    """A message that cannot be sent says so in words, and goes when it is sent again."""
    async with opened(address) as page:
        pane = pane_of(page, 1)
        await page.route("**/page/send", lambda route: route.abort())
        await send(pane, "hello")
        await expect(pane.get_by_role("alert")).to_contain_text("cannot be reached")
        await expect(box_of(pane)).to_have_value("hello")
        await page.unroute("**/page/send")
        await box_of(pane).press("Enter")
        await expect(messages(pane_of(page, 2))).to_have_text(["hello"])


@needs_chromium
async def test_a_page_that_finds_nothing_says_so(address: str) -> None:
    """Without the API's answer it says what is the matter and tries again; without edges, which setting is empty."""
    async with browsing() as context:
        page = await context.new_page()
        await page.route("**/page/places", lambda route: route.abort())
        await page.goto(address)
        await expect(page.get_by_role("status")).to_contain_text("Is pushway up still running? Trying again")
        await page.unroute("**/page/places")
        await connected(page)
        await page.route("**/page/places", lambda route: route.fulfill(json={"edges": []}))
        await page.reload()
        await expect(page.get_by_role("status")).to_contain_text("edge_urls")


@needs_chromium
async def test_lines_are_copied(address: str) -> None:
    """A button copies the line beside it; where the browser does not allow that, it is selected, to be copied by hand."""
    async with opened(address, permissions=["clipboard-read", "clipboard-write"]) as page:
        pane = pane_of(page, 1)
        button = pane.locator(".copy").first
        await button.press("Enter")
        await expect(page.get_by_text("Copied.", exact=True)).to_have_count(1)
        line = await pane.locator(".xadd").inner_text()
        assert await page.evaluate("navigator.clipboard.readText()") == line
        await page.evaluate("() => void (navigator.clipboard.writeText = () => Promise.reject(new Error('no')))")
        await button.press("Enter")
        await expect(page.get_by_text("press Ctrl-C")).to_have_count(1)
        assert await page.evaluate("getSelection().toString()") == line


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
