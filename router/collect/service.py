"""The collect service: for each shard a lease and, while it is held, an owner; and the API."""

from __future__ import annotations

import anyio

from router.api.app import Stores, api_app
from router.api.append.post import Append
from router.api.page import Page
from router.backlog import Backlog, Stream
from router.bell import Bell
from router.collect.eras import Eras
from router.collect.intake import GROUP, Intake
from router.collect.owner import Owner
from router.collect.schedule import Schedule
from router.cursors import Cursors
from router.fitness import await_inbox, await_later, await_redis
from router.http.server import serve_http
from router.inbox import Inbox
from router.keys import Keys
from router.later import Later
from router.lease import Lease
from router.mongo_client import open_mongo
from router.ops import Health
from router.outage import Outages
from router.redis_client import open_redis
from router.service import cancel_at
from router.settings import Settings
from router.subscriptions import Subscriptions

ROLE = "collect"


async def serve(settings: Settings, health: Health, stop: anyio.Event) -> None:
    """Collect until `stop` is set. A batch in hand is left as it is: whoever owns the shard next finishes it.

    Raises:
        SetupError: when Redis or MongoDB answers and is not fit.
    """
    async with (
        open_redis(settings) as redis,
        open_mongo(settings) as mongo,
        anyio.create_task_group() as tasks,
    ):
        inbox, eras, later = Inbox(mongo, settings), Eras(mongo, settings), Later(mongo, settings)
        tasks.start_soon(cancel_at, stop, tasks.cancel_scope)
        await await_redis(redis, settings, health)
        await await_inbox(inbox, settings, health)
        await await_later(later, settings, health)
        append, cursors = Append(redis, inbox, settings), Cursors(mongo, settings)
        page = Page(append, settings) if settings.api_page else None
        stores = Stores(redis, inbox, cursors, Subscriptions(mongo, settings), later)
        api = api_app(settings, health, stores, append, page)
        await tasks.start(serve_http, api, settings.api_host, settings.api_port, stop)
        health.set("lease", ok=False, why="no lease has been asked for yet")
        for shard in range(settings.shards):
            keys = Keys(settings.prefix, shard)
            intake = Intake(redis, keys, settings)
            owner = Owner(
                shard,
                intake,
                inbox,
                eras,
                Bell(redis, intake.connection, [keys.intake()], settings),
                Outages(health, settings, shard=shard),
                settings,
                Schedule(shard, later, settings),
            )
            lease = Lease(redis, keys, ROLE, settings, health)
            backlog = Backlog(redis, shard, [Stream("in", keys.intake(), GROUP), Stream("dead", keys.dead())])
            tasks.start_soon(lease.hold, backlog.beside(owner.run))
