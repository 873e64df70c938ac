"""Workshops of collect, one a test, and the API of one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.integration.api_site import Api, serving
from tests.integration.edges import mongo_urls
from tests.integration.site import Site, open_site
from tests.servers import EmbeddedValkey, Store


@pytest.fixture(scope="session", autouse=True)
def _store_for_edges(store_server: Store) -> None:
    mongo_urls.append(store_server.url)


@pytest.fixture
async def site(valkey_server: EmbeddedValkey, store_server: Store) -> AsyncIterator[Site]:
    """Yield one shard."""
    async with AsyncExitStack() as stack:
        yield await open_site(stack, valkey_server.url, store_server.url)


@pytest.fixture
async def two_shards(valkey_server: EmbeddedValkey, store_server: Store) -> AsyncIterator[Site]:
    """Yield two shards."""
    async with AsyncExitStack() as stack:
        yield await open_site(stack, valkey_server.url, store_server.url, shards=2)


@pytest.fixture
async def api(site: Site) -> AsyncIterator[Api]:
    """Yield the API of one shard."""
    async with serving(site) as api:
        yield api


@pytest.fixture
async def api_of_two(two_shards: Site) -> AsyncIterator[Api]:
    """Yield the API of two shards."""
    async with serving(two_shards) as api:
        yield api
