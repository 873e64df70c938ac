"""A page of another origin, in a browser of somebody who runs Pushway on the same machine: it can make it do nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from playwright.async_api import Page

from tests.browser import needs_chromium, origin
from tests.e2e.two_panes import browsing
from tests.stack import API_KEY, Stack

pytestmark = [pytest.mark.anyio, needs_chromium]

MESSAGE: Final = '{"to":"user:alice","text":"from elsewhere"}'
REFUSED: Final = {401, 403, 415}
WISH: Final = '{"user":"alice"}'

# Says what came of a request as far as the page may know: "opaque" has been sent, and its answer cannot be read.
_FETCH: Final = """
async ([address, options]) => {
    try {
        return (await fetch(address, options)).type;
    } catch (error) {
        return error.name;
    }
}
"""

# A form that is JSON when it is sent as plain text: the = between name and value ends up in a text of it.
_FORM: Final = """
([address, enctype, text]) => {
    const form = document.createElement("form");
    const frame = document.createElement("iframe");
    const input = document.createElement("input");
    frame.name = "answer";
    Object.assign(form, { method: "POST", action: address, enctype, target: "answer" });
    [input.name, input.value] = [text.slice(0, -2) + "\\\\u003d", '"}'];
    form.append(input);
    document.body.append(frame, form);
    form.submit();
}
"""

_LOADED: Final = """
([tag, name, address]) => new Promise((resolve) => {
    const element = document.createElement(tag);
    element.onload = () => resolve(true);
    element.onerror = () => resolve(false);
    element[name] = address;
    document.body.append(element);
})
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield a whole system, as `up` has it: with the page for development."""
    with Stack(tmp_path_factory.mktemp("stack"), edges=1) as stack:
        yield stack


@pytest.fixture(scope="module")
def doors(stack: Stack) -> dict[str, str]:
    """Return address → body of all that appends or gives tokens."""
    api, auth = f"http://127.0.0.1:{stack.settings.api_port}", stack.settings.auth_url
    return {
        f"{api}/v1/messages": MESSAGE,
        f"{api}/page/send": MESSAGE,
        f"{api}/page/token": WISH,
        f"{auth}/v1/tokens": WISH,
    }


@asynccontextmanager
async def _elsewhere() -> AsyncIterator[Page]:
    with origin() as site:
        async with browsing() as context:
            page = await context.new_page()
            # By another name, so that it is another site too.
            await page.goto(site.replace("127.0.0.1", "localhost"))
            yield page
            assert await context.cookies() == []


def _figures(stack: Stack) -> tuple[int, float]:
    """Return how many entries were ever appended, and how many tokens issued."""
    with stack.redis_client() as redis:
        appended: Any = redis.xinfo_stream("push:{0}:in")
    return int(appended["entries-added"]), stack["auth"].metric("pushway_tokens_issued_total")


@pytest.mark.parametrize("said", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_what_needs_no_preflight_does_nothing(stack: Stack, doors: dict[str, str], said: str) -> None:
    """It is sent, as a form is, with the answer hidden from the page; and it is refused."""
    before = _figures(stack)
    async with _elsewhere() as page:
        for address, body in doors.items():
            sent = {"method": "POST", "body": body, "headers": {"content-type": said}}
            options = sent | {"mode": "no-cors", "credentials": "include"}
            assert await page.evaluate(_FETCH, [address, options]) in {"opaque", "TypeError"}
    assert _figures(stack) == before


@pytest.mark.parametrize("enctype", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_form_does_nothing(stack: Stack, doors: dict[str, str], enctype: str) -> None:
    """Not even one that is JSON all the same."""
    before = _figures(stack)
    async with _elsewhere() as page:
        for address, body in doors.items():
            await page.reload()  # one form a page: a browser holds a second one back that nobody has clicked
            async with page.expect_response(address) as sent:
                await page.evaluate(_FORM, [address, enctype, body])
            assert (await sent.value).status in REFUSED
    assert _figures(stack) == before


async def test_what_needs_a_preflight_is_not_sent(stack: Stack, doors: dict[str, str]) -> None:
    """Even with the key: nobody answers that the page may send it."""
    before = _figures(stack)
    async with _elsewhere() as page:
        for address, body in doors.items():
            headers = {"content-type": "application/json", "authorization": f"Bearer {API_KEY}"}
            assert await page.evaluate(_FETCH, [address, {"method": "POST", "body": body, "headers": headers}]) == "TypeError"
        for method in ("DELETE", "PUT"):
            address = next(iter(doors)).replace("/v1/messages", "/v1/users/alice")
            assert await page.evaluate(_FETCH, [address, {"method": method}]) == "TypeError"
    assert _figures(stack) == before


async def test_answers_are_not_for_it(doors: dict[str, str]) -> None:
    """It can neither read them nor run them nor show them in a frame."""
    api = next(iter(doors)).removesuffix("/v1/messages")
    async with _elsewhere() as page:
        for path in ("/", "/page/places", "/page/page.js", "/v1/openapi.json", "/v1/docs", "/readyz"):
            assert await page.evaluate(_FETCH, [api + path, {}]) == "TypeError"
            assert await page.evaluate(_FETCH, [api + path, {"mode": "no-cors"}]) == "TypeError"
            assert not await page.evaluate(_LOADED, ["script", "src", api + path])
        for path in ("/", "/v1/docs", "/v1/openapi.json"):
            await page.evaluate(_LOADED, ["iframe", "src", api + path])
            assert not page.frames[-1].url.startswith("http")


async def test_same_requests_are_good_without_a_browser_between(stack: Stack, doors: dict[str, str]) -> None:
    """So that it is the browser's rules and ours that stop them, and no mistake in these tests."""
    before = _figures(stack)
    async with browsing() as context:
        for address, body in doors.items():
            headers = {"content-type": "application/json", "authorization": f"Bearer {API_KEY}"}
            answer = await context.request.post(address, data=body, headers=headers)
            assert answer.ok
        assert await context.cookies() == []
    assert _figures(stack) == (before[0] + 2, before[1] + 2)
