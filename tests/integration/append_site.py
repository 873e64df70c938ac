"""A site whose messages are appended over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import httpx

from router.api.append.post import POST_MESSAGES, Append
from router.api.openapi import ABOUT
from router.api_keys.ring import Keyring
from router.http.app import http_app
from router.http.server import serve_http
from router.inbox import Inbox
from router.mongo_client import open_mongo
from router.redis_client import open_redis
from tests.integration.site import Site
from tests.servers import free_ports

KEY: Final = "the-key"


class AppendSite:
    """A site, and the API in front of it.

    Attributes:
        site: the site.
        client: shows the API key.
    """

    def __init__(self, site: Site, client: httpx.AsyncClient) -> None:
        self.site = site
        self.client = client

    async def post(self, what: object, **headers: str) -> httpx.Response:
        """Send JSON; a header's name has underscores for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(what, bytes):
            return await self.client.post("/v1/messages", content=what, headers={"content-type": "application/json"} | named)
        return await self.client.post("/v1/messages", json=what, headers=named)

    async def refused(self, status: int, what: object, **headers: str) -> dict[str, Any]:
        """Send what is refused with this status; return the problem document."""
        answer = await self.post(what, **headers)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
        document: dict[str, Any] = answer.json()
        assert document["status"] == status
        return document

    async def accepted(self, what: object, status: int = 202, **headers: str) -> Any:  # noqa: ANN401 - JSON
        """Send what is taken; return the answer."""
        answer = await self.post(what, **headers)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
        return answer.json()

    async def results(self, what: object, status: int = 202, **headers: str) -> list[dict[str, Any]]:
        """Send an array; return a result each."""
        answer = await self.accepted(what, status, **headers)
        found: list[dict[str, Any]] = answer["results"]
        return found

    async def entries(self, shard: int = 0) -> list[dict[bytes, bytes]]:
        """Return what waits in a shard's `in`."""
        return [fields for _, fields in await self.site.redis.xrange(self.site.keys(shard).intake())]


@asynccontextmanager
async def appending_to(site: Site, **changes: Any) -> AsyncIterator[AppendSite]:  # noqa: ANN401 - settings
    """Yield the site with an API of its own connections; nobody collects unless the test lets an owner work."""
    settings = site.settings.model_copy(update={"api_key": KEY} | changes)
    port = free_ports()
    async with open_mongo(settings) as mongo, open_redis(settings) as redis, anyio.create_task_group() as tasks:
        app = http_app(ABOUT, {POST_MESSAGES: Append(redis, Inbox(mongo, settings), settings).post}, keyring=Keyring(KEY))
        await tasks.start(serve_http, app, "127.0.0.1", port, anyio.Event())
        headers = {"authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, headers=headers, timeout=60
        ) as client:
            yield AppendSite(site, client)
        tasks.cancel_scope.cancel()  # see api_site.py


@asynccontextmanager
async def collecting(site: Site) -> AsyncIterator[None]:
    """Have an owner work on every shard meanwhile."""
    async with anyio.create_task_group() as tasks:
        for shard in range(site.settings.shards):
            tasks.start_soon(site.owner(shard).run, await site.lease(shard))
        yield
        tasks.cancel_scope.cancel()
