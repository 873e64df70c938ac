"""JavaScript for tests: the Node that comes with Playwright, Debian's Chromium, and pages of one origin in it.

The origin is `http://localhost`, which counts as secure, so that Web Locks are there. Nobody listens there: Playwright answers.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import playwright
import pytest
from playwright.async_api import Browser, BrowserContext, Route, async_playwright

import edge

JS: Final = Path(edge.__file__).parent / "js"
"""Where the client is."""

NODE: Final = Path(playwright.__file__).parent / "driver" / "node"

ORIGIN: Final = "http://localhost"

_CHROMIUM: Final = shutil.which("chromium")

needs_chromium = pytest.mark.skipif(_CHROMIUM is None, reason="no chromium here: apt-get install chromium")

_QUIET: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

_PAGE: Final = '<!doctype html><title>page of a test</title><link rel="icon" href="data:,">'


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Yield a headless Chromium."""
    async with async_playwright() as started:
        browser = await started.chromium.launch(executable_path=_CHROMIUM, args=list(_QUIET))
        try:
            yield browser
        finally:
            await browser.close()


async def origin(browser: Browser) -> BrowserContext:
    """Return a profile of its own, in which every page of `ORIGIN` is empty and `/pushway.js` is the client."""
    context = await browser.new_context()
    await context.route(f"{ORIGIN}/**", _answer)
    return context


async def _answer(route: Route) -> None:
    if route.request.url.endswith(".js"):
        await route.fulfill(body=(JS / "pushway.js").read_text(encoding="utf-8"), content_type="text/javascript")
    else:
        await route.fulfill(body=_PAGE, content_type="text/html")
