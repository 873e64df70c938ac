"""The same on a real MongoDB, where PUSHWAY_TEST_MONGO_URL names one: a replica set, or a router of a sharded cluster.

Whoever it names must be allowed to make databases, and `replSetStepDown`. Each test drops the database that it made.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import anyio
import pytest
from pymongo.errors import ConnectionFailure

from router.migrate import migrate
from router.sharding import SHARD_KEYS
from tests.integration.site import Site, open_site
from tests.servers import EmbeddedValkey

URL = os.environ.get("PUSHWAY_TEST_MONGO_URL", "")

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(not URL, reason="PUSHWAY_TEST_MONGO_URL names no MongoDB")]

PATIENCE_S = 90.0
STEP_DOWN_S = 20
PAUSE_S = 0.01


@pytest.fixture
async def site(valkey_server: EmbeddedValkey) -> AsyncIterator[Site]:
    """Yield one shard on it."""
    async with AsyncExitStack() as stack:
        site = await open_site(stack, valkey_server.url, URL)
        await migrate(site.settings)
        yield site
        await site.mongo.drop_database(site.settings.mongo_database)


async def _is_router(site: Site) -> bool:
    hello = await site.mongo.admin.command("hello")
    return bool(hello.get("msg") == "isdbgrid")


async def test_collect_and_reads(site: Site) -> None:
    """What is appended is stored once and in order, and a repetition finds it; whoever reads has it confirmed."""
    for number in (*range(50), *range(50)):
        await site.append(to="user:a,user:b", text=str(number), id=f"m{number}")
    with anyio.fail_after(PATIENCE_S):
        async with site.working():
            await site.settled(0)
    await site.is_kept()
    newest = (await site.inbox.newest(["user:a", "user:b", "user:none"]))["user:a"]
    assert await site.inbox.newest_above("user:a", 0) == newest
    page = await site.inbox.page("user:a", 0, newest, 100, 99_999, head=newest)
    assert (len(page.messages), page.whole) == (50, True)


async def test_step_down(site: Site) -> None:
    """The primary steps down under traffic: nothing is lost, nothing comes twice, the order is kept."""
    if await _is_router(site):
        pytest.skip("it is a router: its shards step down, each by itself")
    over = anyio.Event()

    async def produce() -> None:
        number = 0
        while not over.is_set():
            await site.append(to="user:a", text=str(number), id=f"m{number}")
            number += 1
            await anyio.sleep(PAUSE_S)

    with anyio.fail_after(PATIENCE_S):
        async with site.working(), anyio.create_task_group() as tasks:
            tasks.start_soon(produce)
            await site.has_lines(10)
            with suppress(ConnectionFailure):
                await site.mongo.admin.command("replSetStepDown", STEP_DOWN_S)
            await site.has_lines(len(await site.lines()) + 100)
            over.set()
        async with site.working():
            await site.settled(0)
    await site.is_kept()


async def test_sharded(site: Site) -> None:
    """A router has sharded what `pushway migrate` says, and takes the unique index beside it."""
    if not await _is_router(site):
        pytest.skip("it is no router")
    database = site.settings.mongo_database
    for name, field in SHARD_KEYS.items():
        found = await site.mongo.config.collections.find_one({"_id": f"{database}.{name}"})
        assert found is not None
        assert found["key"] == {field: "hashed"}
    assert (await site.documents.index_information())["target_seq"]["unique"]
