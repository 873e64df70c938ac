"""The collect service: for each shard a lease and, while it is held, an owner; and the API."""

from __future__ import annotations

from functools import partial

import anyio
from anyio.abc import TaskGroup

from router.api.app import Stores, api_app
from router.api.append.post import Append
from router.api.page import Page
from router.api_keys.file import ApiKeys
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
from router.sharing import Place, Sharing
from router.subscriptions import Subscriptions
from router.tls.certificate import http_certificate
from router.workers import Workers, make_worker_id

ROLE = "collect"


async def serve(settings: Settings, health: Health, stop: anyio.Event) -> None:
    """Collect until `stop` is set. A batch in hand is left as it is: whoever owns the shard next finishes it.

    Raises:
        SetupError: when Redis or MongoDB answers and is not fit, or there are no API keys and the API is to be served.
    """
    keys = ApiKeys(settings) if settings.api_port else None
    # Before anything else is met: whoever sees it ready calls its API, which opens last.
    health.set("lease", ok=False, why="no lease has been asked for yet")
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
        if keys is not None:
            stores = Stores(redis, inbox, Cursors(mongo, settings), Subscriptions(mongo, settings), later)
            await _open_api(tasks, settings, health, stores, keys, stop)
        worker = make_worker_id(settings.worker)

        def place(shard: int) -> Place:
            names = Keys(settings.prefix, shard)
            intake = Intake(redis, names, settings)
            lease = Lease(redis, names, ROLE, worker, settings.lease_ms)
            owner = Owner(
                shard,
                intake,
                inbox,
                eras,
                Bell(intake.connection, names.intake(), settings),
                Outages(health, settings, shard=shard),
                settings,
                Schedule(shard, later, settings),
                lease.handover,
            )
            streams = [Stream("in", names.intake(), GROUP, names.pending()), Stream("dead", names.dead())]
            return Place(lease, Backlog(redis, shard, streams).beside(owner.run))

        places = [place(shard) for shard in range(settings.shards)]
        tasks.start_soon(Sharing(ROLE, worker, Workers(redis, settings, ROLE), places, settings, health).run)


async def _open_api(
    tasks: TaskGroup, settings: Settings, health: Health, stores: Stores, keys: ApiKeys, stop: anyio.Event
) -> None:
    append = Append(stores.redis, stores.inbox, settings)
    page = Page(append, settings) if settings.api_page else None
    api = api_app(settings, health, stores, append, keys.ring, page)
    tasks.start_soon(keys.follow, stop)
    certificate = http_certificate(settings)
    await tasks.start(partial(serve_http, api, settings.api_host, settings.api_port, stop, certificate=certificate))
