"""How an outage is told to whoever asks the API: 503, and when to come again."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import structlog
from pymongo.errors import PyMongoError
from redis.exceptions import OutOfMemoryError, RedisError

from router.http.problems import Problem
from router.mongo_client import brief

log = structlog.get_logger(__name__)

RETRY_AFTER_S: Final = 2
"""When to come again after an outage: about as soon as collect itself tries again."""


def unavailable(detail: str) -> Problem:
    """Return the problem of something that passes by itself."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"retry-after": str(RETRY_AFTER_S)})


def away(exc: PyMongoError | RedisError | OSError) -> Problem:
    """Return the problem of a server that is away, and log it."""
    who = "MongoDB" if isinstance(exc, PyMongoError) else "Redis"
    log.warning("api_unserved", server="mongo" if who == "MongoDB" else "redis", error=brief(exc), kind=type(exc).__name__)
    if isinstance(exc, OutOfMemoryError):
        return unavailable("Redis is out of memory and takes no message just now; try again")
    return unavailable(f"{who} cannot be asked just now; try again")
