"""A primary that is cut off from its set, and does not know: it answers nobody whom an old answer would harm."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pymongo
import pytest

from router.collect.eras import Era, Eras
from router.later import Later
from router.migrate import migrate
from router.mongo_client import STORE_OUTAGE, open_mongo
from router.revocation import of_user
from router.revoked import Revoked
from router.settings import Settings
from router.stored import make_document
from router.subscriptions import Subscriptions
from tests.collecting import until
from tests.integration.api_site import serving
from tests.integration.site import Site, open_site
from tests.replica_set import ReplicaSet
from tests.servers import EmbeddedValkey, Store

pytestmark = pytest.mark.anyio

HEAD = 2
PATIENCE_S = 30.0


@pytest.fixture
def stand_still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store for what the deposed primary knows."""
    with Store(tmp_path_factory.mktemp("stand-still")) as server:
        yield server


@pytest.fixture
def members(store_server: Store) -> Iterator[ReplicaSet]:
    """Yield a set in front of the run's store."""
    with ReplicaSet(store_server.port) as members:
        yield members


def copy(source: str, sink: str, database: str) -> None:
    """Bring a database from one store to another."""
    with pymongo.MongoClient[dict[str, Any]](source) as here, pymongo.MongoClient[dict[str, Any]](sink) as there:
        for name in here[database].list_collection_names():
            if documents := list(here[database][name].find({})):
                there[database][name].insert_many(documents)


async def _store(settings: Settings, number: int) -> None:
    """Accept a message, by whatever collect there is on that side; note and revoke things beside."""
    now_ms = time.time_ns() // 1_000_000
    document = make_document(
        target="user:a",
        message_id=f"m{number}",
        place=(number - 1, number),
        frame=f'{{"seq":{number}}}',
        carried=(),
        now_ms=now_ms,
        shard=0,
        expires_ms=now_ms + 3_600_000,
    )
    async with open_mongo(settings) as mongo:
        await mongo[settings.mongo_database].inbox.insert_one(document)
        await Subscriptions(mongo, settings).add("a", f"topic-{number}")
        await Eras(mongo, settings).note(0, Era("redis", number))
        await Revoked(mongo, settings).add(of_user("a", settings, time.time(), number))


def _reads(site: Site) -> dict[str, tuple[Callable[[], Awaitable[Any]], Callable[[Any], bool]]]:
    """Return what an old answer would harm, each with what tells a right one."""
    mongo, settings = site.mongo, site.settings
    return {
        "page": (lambda: site.inbox.page("user:a", 0, HEAD, 9, 999, head=HEAD), lambda page: page.reached == HEAD),
        "newest": (lambda: site.inbox.newest(["user:a"]), lambda newest: newest == {"user:a": HEAD}),
        "newest above": (lambda: site.inbox.newest_above("user:a", 0), lambda newest: newest == HEAD),
        "newest of few": (lambda: site.inbox.newest_of_few(["user:a"]), lambda newest: newest == {"user:a": HEAD}),
        "with id": (lambda: site.inbox.with_id("m2", 9), lambda kept: len(kept) == 1),
        "topics": (lambda: Subscriptions(mongo, settings).topics_of("a"), lambda topics: "topic-2" in topics),
        "era": (lambda: Eras(mongo, settings).last(0), lambda era: era.number == HEAD),
        "revoked": (lambda: Revoked(mongo, settings).read(), lambda read: read.revocations[0].before == HEAD),
        "later": (lambda: Later(mongo, settings).next_due_ms(0, 0), lambda due: due is None),
    }


async def test_deposed_primary(
    valkey_server: EmbeddedValkey, store_server: Store, stand_still: Store, members: ReplicaSet
) -> None:
    """What others have accepted meanwhile is never said not to be there: there is no answer until the new primary is found."""
    async with AsyncExitStack() as stack:
        site = await open_site(stack, valkey_server.url, members.url)
        of_others = site.settings.model_copy(update={"mongo_url": store_server.url})
        await migrate(of_others)
        await _store(of_others, 1)
        copy(store_server.url, stand_still.url, site.settings.mongo_database)
        await site.inbox.check()
        members.part(stand_still.port)
        await _store(of_others, 2)
        for name, (read, _) in _reads(site).items():
            with pytest.raises(STORE_OUTAGE):
                pytest.fail(f"{name}: {await read()}")
        async with serving(site) as api:
            assert (await api.client.get("/v1/messages/m2")).status_code == 503
        members.heal(store_server.port)
        with anyio.fail_after(PATIENCE_S):
            for name, (read, is_right) in _reads(site).items():
                assert is_right(await read()), name


async def test_a_write_that_no_majority_has(
    valkey_server: EmbeddedValkey, store_server: Store, stand_still: Store, members: ReplicaSet
) -> None:
    """What a deposed primary has stored is not accepted, and nobody is told of it before it is stored where it stays."""
    async with AsyncExitStack() as stack:
        site = await open_site(stack, valkey_server.url, members.url)
        await site.append(to="user:a", text="1", id="m1")
        with anyio.fail_after(PATIENCE_S):
            async with site.working():
                await site.settled(0)
                copy(store_server.url, stand_still.url, site.settings.mongo_database)
                members.part(stand_still.port)
                await site.append(to="user:a", text="2", id="m2")
                await until(lambda: bool(site.health.reasons))
                assert len(await site.lines()) == 1
                with stand_still.client() as there:
                    assert there[site.settings.mongo_database].inbox.count_documents({"id": "m2"}) == 1
                members.heal(store_server.port)
                await site.settled(0)
        await site.is_kept()
