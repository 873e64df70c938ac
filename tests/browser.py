"""JavaScript for tests: the Node that comes with Playwright, Debian's Chromium, and an origin for its pages.

The origin is a server of this machine: only then does Chromium let its pages connect to this machine, and have Web Locks.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Final

import playwright
import pytest
from playwright.async_api import Browser, async_playwright

import edge

JS: Final = Path(edge.__file__).parent / "js"
"""Where the client is."""

NODE: Final = Path(playwright.__file__).parent / "driver" / "node"

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

_PAGE: Final = b'<!doctype html><title>page of a test</title><link rel="icon" href="data:,">'


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Yield a headless Chromium."""
    async with async_playwright() as started:
        browser = await started.chromium.launch(executable_path=_CHROMIUM, args=list(_QUIET))
        try:
            yield browser
        finally:
            await browser.close()


class _Origin(BaseHTTPRequestHandler):
    """Every page is empty, and every module is the client."""

    def do_GET(self) -> None:
        """Answer."""
        module = self.path.endswith(".js")
        self.send_response(200)
        self.send_header("content-type", "text/javascript" if module else "text/html")
        self.end_headers()
        self.wfile.write((JS / "pushway.js").read_bytes() if module else _PAGE)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing."""


@contextmanager
def origin() -> Iterator[str]:
    """Yield the address of an origin of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Origin)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
