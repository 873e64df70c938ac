"""The routes of the API, and what all answers share: the API key, problem documents, an outage that is told as one."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import structlog
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.access import check_api_key
from router.api.health import Readiness
from router.api.messages import Messages
from router.api.page import Page
from router.ops import Health
from router.problems import Problem, problem_handlers
from router.settings import Settings

log = structlog.get_logger(__name__)

_RETRY_AFTER_S: Final = 2
"""When to come again after an outage: about as soon as collect itself tries again."""


def api_app(settings: Settings, health: Health, messages: Messages, page: Page | None = None) -> Starlette:
    """Return the application; the page is for development."""

    async def get_message(request: Request) -> Response:
        check_api_key(request, settings.api_key)
        try:
            return await messages.get(request)
        except (PyMongoError, RedisError) as exc:
            raise _away(exc) from exc

    return Starlette(
        routes=[
            Route("/readyz", Readiness(settings, health).get, methods=["GET"]),
            # An id may have slashes in it.
            Route("/v1/messages/{message_id:path}", get_message, methods=["GET"]),
            *(page.routes if page else ()),
        ],
        exception_handlers=problem_handlers(),
    )


def _away(exc: PyMongoError | RedisError) -> Problem:
    who = "MongoDB" if isinstance(exc, PyMongoError) else "Redis"
    log.warning("api_unserved", server=who, error=str(exc), kind=type(exc).__name__)
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"{who} cannot be asked just now; try again",
        headers={"retry-after": str(_RETRY_AFTER_S)},
    )
