"""The page at the API's root in a Chromium, and how its tests speak of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from playwright.async_api import BrowserContext, Locator, Page, expect

from tests.browser import chromium

TIMEOUT_S: Final = 60.0


@asynccontextmanager
async def browsing(**options: Any) -> AsyncIterator[BrowserContext]:  # noqa: ANN401 - Playwright's options of a context
    """Yield a profile in a Chromium, within these tests' patience; no page of it may throw."""
    expect.set_options(timeout=TIMEOUT_S * 1_000)
    mistakes: list[object] = []
    with anyio.fail_after(TIMEOUT_S):
        async with chromium() as browser:
            context = await browser.new_context(**options)
            context.on("weberror", lambda mistake: mistakes.append(mistake.error))
            yield context
    assert mistakes == []


@asynccontextmanager
async def opened(address: str, **options: Any) -> AsyncIterator[Page]:  # noqa: ANN401 - Playwright's options of a context
    """Yield the page when both panes are connected; it has made no mistake at the end."""
    async with browsing(**options) as context:
        page = await context.new_page()
        await page.goto(address)
        await connected(page)
        yield page


async def connected(page: Page) -> None:
    """Wait until both panes are connected."""
    for number in (1, 2):
        await expect(pane_of(page, number)).to_have_attribute("data-state", "open")


def pane_of(page: Page, number: int) -> Locator:
    """Return the first or the second pane."""
    return page.get_by_role("region", name=f"Pane {number}")


def box_of(pane: Locator) -> Locator:
    """Return where a message is written."""
    return pane.get_by_label("Message", exact=True)


async def send(pane: Locator, content: str) -> None:
    """Send with the keyboard alone."""
    await box_of(pane).fill(content)
    await box_of(pane).press("Enter")


async def send_to(pane: Locator, target: str, content: str) -> None:
    """Send to somebody else than the pane was for."""
    await pane.get_by_label("To").fill(target)
    await send(pane, content)


def messages(pane: Locator) -> Locator:
    """Return the messages that came to a pane."""
    return pane.locator(".came .content")


def sent(pane: Locator, content: str) -> Locator:
    """Return a message that a pane has sent."""
    return pane.locator(".sent").filter(has_text=content)
