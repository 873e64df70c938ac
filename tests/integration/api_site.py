"""The API of a site, over real HTTP."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import httpx

from router.api.app import Stores, api_app
from router.api.append.post import Append
from router.api_keys.ring import Keyring
from router.cursors import Cursors
from router.http.server import serve_http
from router.inbox import Inbox
from router.later import Later
from router.mongo_client import open_mongo
from router.ops import Health
from router.redis_client import open_redis
from router.shards import shard_of_id
from router.subscriptions import Subscriptions
from tests.integration.site import Site
from tests.servers import free_ports

KEY: Final = "the-key"


class Api:
    """The API of a site, and the cursors beside it."""

    def __init__(self, site: Site, url: str, cursors: Cursors) -> None:
        self.site = site
        self.cursors = cursors
        self.client = httpx.AsyncClient(base_url=url, trust_env=False, headers={"authorization": f"Bearer {KEY}"})

    async def ask(self, method: str, path: str, status: int = 200, **query: Any) -> Any:  # noqa: ANN401 - JSON
        """Return what a request is answered with, by this status."""
        answer = await self.client.request(method, path, params={name: str(value) for name, value in query.items()})
        kind = "application/json" if status < 400 else "application/problem+json"
        assert (answer.status_code, answer.headers["content-type"]) == (status, kind), answer.text
        return answer.json()

    async def get(self, path: str, **query: Any) -> Any:  # noqa: ANN401 - JSON
        """Return what stands at an address, which is there."""
        return await self.ask("GET", path, 200, **query)

    async def refused(self, path: str, **query: Any) -> Any:  # noqa: ANN401 - JSON
        """Return the problem of a request that breaks a rule."""
        return await self.ask("GET", path, 400, **query)

    async def route(self, user: str, node: str, route_ms: int = 60_000, node_ms: int = 60_000) -> int:
        """Route a user to a node, as of now; return when the route expires."""
        keys, now_ms = self.site.keys(shard_of_id(user, self.site.settings.shards)), time.time_ns() // 1_000_000
        await self.site.redis.zadd(keys.route(user), {node: now_ms + route_ms})
        await self.site.redis.zadd(keys.nodes(), {node: now_ms + node_ms})
        return now_ms + route_ms


@asynccontextmanager
async def serving(site: Site) -> AsyncIterator[Api]:
    """Yield the API of a site."""
    settings = site.settings.model_copy(update={"api_key": KEY})
    port = free_ports()
    async with open_mongo(settings) as mongo, open_redis(settings) as redis, anyio.create_task_group() as tasks:
        inbox, cursors = Inbox(mongo, settings), Cursors(mongo, settings)
        stores = Stores(redis, inbox, cursors, Subscriptions(mongo, settings), Later(mongo, settings))
        app = api_app(settings, Health(), stores, Append(redis, inbox, settings), Keyring(settings.api_key))
        await tasks.start(serve_http, app, "127.0.0.1", port, anyio.Event())
        api = Api(site, f"http://127.0.0.1:{port}", cursors)
        yield api
        await api.client.aclose()
        # Cut off: that an HTTP server ends calmly takes it a tenth of a second, and is tested once, elsewhere.
        tasks.cancel_scope.cancel()
