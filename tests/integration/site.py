"""Collect's workshop over a real Redis and a real store, with a prefix and a database of its own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio

from router.bodies import Bodies
from router.collect.eras import Eras
from router.inbox import Inbox
from router.later import Later
from router.mongo_client import open_mongo
from router.redis_client import open_redis
from router.settings import Settings
from router.stored import Document, make_document
from router.waiting import IN_HAND
from tests.collecting import SETTLE_TIMEOUT_S, Workshop


class Site(Workshop):
    """A workshop over real servers, which also reads what the inbox holds."""

    inbox: Inbox

    def __init__(self, redis: Any, mongo: Any, settings: Settings) -> None:  # noqa: ANN401 - drivers' clients
        super().__init__(redis, Inbox(mongo, settings), settings, Eras(mongo, settings), Later(mongo, settings))
        self.mongo = mongo
        self.documents = mongo[settings.mongo_database].inbox

    async def stored(self) -> list[Document]:
        """Return all documents of the inbox, those that have a body with their frame."""
        documents = [document async for document in self.documents.find({})]
        for document in documents:
            if "body" in document:
                found = await Bodies(self.mongo, self.settings).find([document["body"]])
                document["frame"] = found[document["body"]].frame(document["target"], document["seq"])
        return documents

    async def store_another(self, target: str, seq: int) -> None:
        """Store a message that was never collect's."""
        place, frame = (0, seq), f'{{"another":{seq}}}'
        document = make_document(
            target=target,
            message_id=f"another-{seq}",
            place=place,
            frame=frame,
            carried=(),
            now_ms=0,
            shard=0,
            expires_ms=2**41,
        )
        await self.documents.insert_one(document)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Have an owner of shard 0 work meanwhile."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.owner().run, await self.lease())
            yield
            tasks.cancel_scope.cancel()

    async def has_lines(self, count: int) -> None:
        """Return when so many lines are in `out` and nothing waits in `later` that is being sent."""
        with anyio.fail_after(SETTLE_TIMEOUT_S):
            while len(await self.lines()) < count or await self._in_hand():  # noqa: ASYNC110 - the servers'
                await anyio.sleep(0.01)

    async def has_dead(self, count: int) -> None:
        """Return when there are so many dead letters."""
        with anyio.fail_after(SETTLE_TIMEOUT_S):
            while len(await self.dead()) < count:  # noqa: ASYNC110 - Redis'
                await anyio.sleep(0.01)

    async def _in_hand(self) -> int:
        count: int = await self.mongo[self.settings.mongo_database].later.count_documents({"due_at": IN_HAND})
        return count

    async def is_kept(self, *, in_order: bool = True) -> None:
        """Assert what is promised of all that was appended."""
        await self.keeps_its_promise(await self.stored(), in_order=in_order)


async def open_site(stack: AsyncExitStack, redis_url: str, mongo_url: str, **changes: Any) -> Site:  # noqa: ANN401 - settings
    """Return a workshop whose servers are closed with the stack."""
    name = f"test-{uuid.uuid4().hex}"
    settings = Settings(
        redis_url=redis_url,
        mongo_url=mongo_url,
        prefix=name,
        mongo_database=name,
        wait_ms=20,
        backoff_min_ms=5,
        backoff_max_ms=50,
        mongo_timeout_s=2.0,
        **changes,
    )
    redis = await stack.enter_async_context(open_redis(settings))
    mongo = await stack.enter_async_context(open_mongo(settings))
    await Inbox(mongo, settings).make_indexes(settings.idempotency_s)
    await Later(mongo, settings).make_indexes()
    return Site(redis, mongo, settings)
