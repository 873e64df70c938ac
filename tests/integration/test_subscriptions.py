"""router.subscriptions on a real store and a real Redis: written durably first, then told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from pymongo.errors import PyMongoError
from redis.asyncio import Redis

from router.keys import Keys
from router.mongo_client import open_mongo
from router.notices import notice, tell_nodes
from router.settings import Settings
from router.subscriptions import NotTold, Subscriptions, TooManyTopics, subscribe, unsubscribe
from tests.integration.site import Site
from tests.servers import Store, free_ports

pytestmark = pytest.mark.anyio

NODE = "edge-1.k3f9"


@asynccontextmanager
async def back_end(site: Site, **changes: Any) -> AsyncIterator[Subscriptions]:  # noqa: ANN401 - settings
    """Open the collection as one back end has it."""
    settings = site.settings.model_copy(update=changes)
    async with open_mongo(settings) as mongo:
        yield Subscriptions(mongo, settings)


@pytest.fixture
async def subscriptions(site: Site) -> AsyncIterator[Subscriptions]:
    """Yield the adapter, on a database of the test's own."""
    async with back_end(site) as opened:
        yield opened


async def documents(site: Site) -> list[dict[str, Any]]:
    """Return what stands there."""
    async with open_mongo(site.settings) as mongo:
        return [document async for document in mongo[site.settings.mongo_database].subscriptions.find({})]


@asynccontextmanager
async def node_of(site: Site, user: str) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """Route a user to a node; yield what returns the next that this node is told."""
    keys = Keys(site.settings.prefix, 0)
    now_s, _ = await site.redis.time()
    await site.redis.zadd(keys.route(user), {NODE: now_s * 1000 + 60_000})
    async with site.redis.pubsub() as ear:
        await ear.ssubscribe(keys.node_channel(NODE))
        said = (message async for message in ear.listen() if message["type"] == "smessage")

        async def told() -> str:
            with anyio.fail_after(60):
                return str((await anext(said))["data"].decode())

        yield told


async def test_topics_stand_in_the_order_of_their_coming(site: Site, subscriptions: Subscriptions) -> None:
    """Each once; who is asked for many is told only of those that have any; the last one takes the document with it."""
    began = datetime.now(UTC)
    assert [await subscriptions.add("alice", topic) for topic in ("b", "a", "b", "c")] == [True, True, False, True]
    assert await subscriptions.topics_of("alice") == ["b", "a", "c"]
    assert await subscriptions.topics_of_many(["alice", "bob"]) == {"alice": ["b", "a", "c"]}
    (document,) = await documents(site)
    assert abs((document.pop("updated_at") - began).total_seconds()) < 10
    assert document == {"_id": "alice", "topics": ["b", "a", "c"]}
    assert [await subscriptions.remove("alice", topic) for topic in ("a", "a", "b", "c")] == [True, False, True, True]
    assert await subscriptions.topics_of("alice") == []
    assert await documents(site) == []


async def test_a_user_has_no_more_than_so_many(site: Site) -> None:
    """The error says how many, and what stands may be said again; removing one makes room."""
    async with back_end(site, subscriptions_user_max=2) as subscriptions:
        assert await subscriptions.add("alice", "a")
        assert await subscriptions.add("alice", "b")
        assert not await subscriptions.add("alice", "a")
        with pytest.raises(TooManyTopics, match=r"alice has 2 standing subscriptions \(subscriptions_user_max\) already"):
            await subscriptions.add("alice", "c")
        await subscriptions.remove("alice", "a")
        assert await subscriptions.add("alice", "c")
        assert await subscriptions.topics_of("alice") == ["b", "c"]


async def test_back_ends_race(site: Site) -> None:
    """Of two that say the same at once one is told that it is new; nothing is lost, and the bound holds."""
    told: list[bool] = []
    refused: list[str] = []

    async def add(subscriptions: Subscriptions, topic: str) -> None:
        try:
            told.append(await subscriptions.add("alice", topic))
        except TooManyTopics:
            refused.append(topic)

    async with back_end(site, subscriptions_user_max=6) as one, back_end(site, subscriptions_user_max=6) as other:
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                for subscriptions in (one, other):
                    tasks.start_soon(add, subscriptions, f"topic-{number}")
        stands = await one.topics_of("alice")
    assert len(stands) == len(set(stands)) == 6
    assert sorted(told) == [False] * 6 + [True] * 6
    assert sorted(refused) == sorted([f"topic-{number}" for number in range(8) if f"topic-{number}" not in stands] * 2)


async def test_adding_and_removing_race(site: Site, subscriptions: Subscriptions) -> None:
    """A document that goes with its last topic takes no other one with it."""

    async def change(how: Callable[[str, str], Awaitable[bool]], topic: str) -> None:
        await how("alice", topic)

    for _ in range(20):
        await subscriptions.add("alice", "a")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(change, subscriptions.remove, "a")
            tasks.start_soon(change, subscriptions.add, "b")
        assert await subscriptions.topics_of("alice") == ["b"]
        await subscriptions.remove("alice", "b")
    assert await documents(site) == []


async def test_nodes_are_told_each_time(site: Site, subscriptions: Subscriptions) -> None:
    """To read anew, and what ends; also where nothing has changed, so that whoever is in doubt repeats it."""
    async with node_of(site, "alice") as told:
        changed = [await subscribe(site.redis, subscriptions, site.settings, "alice", "news") for _ in range(2)]
        changed += [await unsubscribe(site.redis, subscriptions, site.settings, "alice", "news") for _ in range(2)]
        heard = [await told() for _ in range(4)]
    assert changed == [True, False, True, False]
    anew, end = 'topics - - - {"user":"alice"}', 'unsubscribed - - - {"user":"alice","topic":"news"}'
    assert heard == [anew, anew, f"{end}\n{anew}", f"{end}\n{anew}"]


async def test_nobody_is_told_of_what_is_not_written(site: Site) -> None:
    """While the store is away, the caller is told that it is unknown."""
    changes = {"mongo_url": f"mongodb://127.0.0.1:{free_ports()}", "mongo_timeout_s": 0.2}
    async with node_of(site, "alice") as told, back_end(site, **changes) as subscriptions:
        with pytest.raises(PyMongoError):
            await subscribe(site.redis, subscriptions, site.settings, "alice", "news")
        with pytest.raises(PyMongoError):
            await unsubscribe(site.redis, subscriptions, site.settings, "alice", "news")
        await tell_nodes(site.redis, site.settings, "alice", notice("last", {"of": "all"}))
        assert await told() == 'last - - - {"of":"all"}'


async def test_who_cannot_tell_says_to_repeat(site: Site, subscriptions: Subscriptions) -> None:
    """It is written by then: the next session hears the topic, those that are there may not know."""
    away = Redis(port=free_ports())
    for change in (subscribe, unsubscribe):
        with pytest.raises(NotTold, match="repeat it"):
            await change(away, subscriptions, site.settings, "alice", "news")
        assert await subscriptions.topics_of("alice") == (["news"] if change is subscribe else [])
    await away.aclose()


async def test_it_outlives_the_store(site: Site, tmp_path: Path) -> None:
    """What was said to be written is there after the store was killed."""
    with Store(tmp_path) as store:
        async with back_end(site, mongo_url=store.url) as subscriptions:
            await subscriptions.add("alice", "news")
        store.kill()
        store.start()
        async with back_end(site, mongo_url=store.url) as subscriptions:
            assert await subscriptions.topics_of("alice") == ["news"]


async def test_a_spoilt_document_is_one_users_trouble(site: Site, subscriptions: Subscriptions) -> None:
    """Nobody else's lookup fails for it."""
    await subscriptions.add("bob", "news")
    async with open_mongo(site.settings) as mongo:
        collection = mongo[site.settings.mongo_database].subscriptions
        await collection.insert_many([{"_id": "a", "topics": 7}, {"_id": "b"}, {"_id": "c", "topics": [1, "a b", "news"]}])
    assert await subscriptions.topics_of_many(["a", "b", "c", "bob"]) == {"bob": ["news"], "c": ["news"]}


async def test_forgetting_a_user(subscriptions: Subscriptions) -> None:
    """All of it goes, and again there is nothing."""
    await subscriptions.add("alice", "news")
    await subscriptions.add("alice", "sport")
    assert [await subscriptions.forget("alice") for _ in range(2)] == [2, 0]
    assert await subscriptions.topics_of("alice") == []


def test_the_bound_is_a_setting() -> None:
    """128, unless set."""
    assert Settings().subscriptions_user_max == 128
