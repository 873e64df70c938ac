"""Both OpenAPI documents against the services that serve them, and the page that shows them.

schemathesis makes requests of a document, good and bad, and checks what comes back. People make theirs in Chromium.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.browser import chromium, needs_chromium
from tests.servers import wait_until
from tests.stack import API_KEY, Stack

KEY = {"authorization": f"Bearer {API_KEY}"}

EXAMPLES = 8
"""Requests made of each operation in the fuzzing phase; the others make what the document gives rise to."""

SEED = 4711
"""The same requests in every run, as far as answers are the same."""

TIMEOUT_S = 200


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A whole system."""
    with Stack(tmp_path_factory.mktemp("stack"), edges=1) as stack:
        yield stack


@pytest.fixture
def api(stack: Stack) -> str:
    """Return the API's address, once the message is stored that its examples speak of: requests may have erased it."""
    with stack.redis_client() as redis:
        redis.xadd("push:{0}:in", {"to": "user:alice", "text": "hello", "id": "order-4711", "trace": "1"})
    url = f"http://{stack.settings.api_host}:{stack.settings.api_port}"
    example = f"{url}/v1/messages/order-4711"
    wait_until(lambda: "user:alice" in httpx.get(example, headers=KEY, trust_env=False).text, "the message is stored")
    return url


def _fuzz(url: str, folder: Path, *options: str) -> None:
    """Let schemathesis make its requests of a service; what it finds is the failure's text, with a curl line each."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/v1/openapi.json", "--no-color"),
        *("--checks", "all", "--max-examples", str(EXAMPLES), "--seed", str(SEED), "--generation-database", "none"),
        *("--header", f"Authorization: Bearer {API_KEY}", *options),
    ]
    # The folder is empty, so that no configuration is found there.
    environment = os.environ | {"SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("fuzzing.py"))}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]


def test_api_keeps_to_its_document(api: str, tmp_path: Path) -> None:
    """No request brings an answer that is not described, or an error of the service; none that is wrong is taken."""
    _fuzz(api, tmp_path)


def test_auth_keeps_to_its_document(stack: Stack, tmp_path: Path) -> None:
    """Likewise."""
    _fuzz(stack.settings.auth_url, tmp_path)


def _operation_ids(url: str) -> list[str]:
    paths = httpx.get(f"{url}/v1/openapi.json", trust_env=False).json()["paths"]
    return [operation["operationId"] for methods in paths.values() for operation in methods.values()]


@asynccontextmanager
async def _reference(url: str, *, width: int = 1200) -> AsyncIterator[Page]:
    """The page of a service, in a window; nothing may go wrong on it."""
    async with chromium() as browser:
        page = await browser.new_page(viewport={"width": width, "height": 800})
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        await page.goto(f"{url}/v1/docs")
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Pushway")
        yield page
        assert wrong == []


@needs_chromium
@pytest.mark.anyio
async def test_page_makes_a_request(api: str) -> None:
    """With the key typed in, the example works as it stands, and so does the line for a shell."""
    async with _reference(api) as page:
        operation = page.locator("#get_message")
        await page.get_by_label("API key").fill(API_KEY)
        await operation.get_by_text("Try it").click()
        await operation.get_by_role("button", name="Send").click()
        await expect(operation.locator(".outcome")).to_contain_text("200 OK")
        await expect(operation.locator("output code")).to_contain_text('"to": "user:alice"')
        line = await operation.locator(".curl").inner_text()
    words = shlex.split(line.replace("$key", API_KEY))
    assert words == ["curl", f"{api}/v1/messages/order-4711", "-H", f"Authorization: Bearer {API_KEY}"]


@needs_chromium
@pytest.mark.anyio
async def test_page_shows_every_operation(api: str, stack: Stack) -> None:
    """On a phone, too, where nothing is wider than the screen."""
    for url in (api, stack.settings.auth_url):
        ids = _operation_ids(url)
        async with _reference(url, width=390) as page:
            await expect(page.locator("article")).to_have_count(len(ids))
            assert await page.locator("article").evaluate_all("all => all.map(one => one.id)") == ids
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
