"""Between the servers and the services: the servers are made ready for the settings, and only then are these written down.

In this order a start that does not fit the data, such as one with another number of shards, leaves the settings file as the
last good start wrote it.
"""

from __future__ import annotations

from pymongo.errors import PyMongoError

from router.errors import SetupError
from router.migrate import migrate
from router.redis_client import OUTAGE, check_redis, open_redis
from router.up.folder import write_config
from router.up.plan import Plan


async def prepare(plan: Plan) -> None:
    """Make both servers and the settings file ready for the services.

    Raises:
        SetupError: when a server or what it holds does not fit the settings.
    """
    try:
        async with open_redis(plan.settings) as redis:
            await check_redis(redis, plan.settings)
        await migrate(plan.settings)
    except OUTAGE as exc:
        raise SetupError(f"Redis cannot be made ready: {exc}") from None
    except PyMongoError as exc:
        raise SetupError(f"MongoDB cannot be made ready: {exc}") from None
    write_config(plan.config, plan.settings)
