"""The operations of the API and who answers them, and an outage that is told as one."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import structlog
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from router.api.health import GET_READYZ, Readiness
from router.api.messages import GET_MESSAGE, Messages
from router.api.nodes import GET_NODES, Nodes
from router.api.openapi import ABOUT
from router.api.page import Page
from router.api.users import DELETE_SESSIONS, GET_USER, GET_USER_MESSAGES, Users
from router.http_app import Handler, http_app
from router.operations import Operation
from router.ops import Health
from router.problems import Problem
from router.settings import Settings

log = structlog.get_logger(__name__)

_RETRY_AFTER_S: Final = 2
"""When to come again after an outage: about as soon as collect itself tries again."""


def api_app(
    settings: Settings, health: Health, messages: Messages, users: Users, nodes: Nodes, page: Page | None = None
) -> Starlette:
    """Return the application; the page is for development."""
    handlers: dict[Operation, Handler] = {
        GET_MESSAGE: messages.get,
        GET_USER: users.get,
        GET_USER_MESSAGES: users.get_messages,
        DELETE_SESSIONS: users.delete_sessions,
        GET_NODES: nodes.get,
        GET_READYZ: Readiness(settings, health).get,
    }
    return http_app(
        ABOUT,
        {operation: _telling_outages(handler) for operation, handler in handlers.items()},
        api_key=settings.api_key,
        others=page.routes if page else (),
    )


def _telling_outages(handler: Handler) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except (PyMongoError, RedisError) as exc:
            raise _away(exc) from exc

    return answer


def _away(exc: PyMongoError | RedisError) -> Problem:
    who = "MongoDB" if isinstance(exc, PyMongoError) else "Redis"
    log.warning("api_unserved", server=who, error=str(exc), kind=type(exc).__name__)
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"{who} cannot be asked just now; try again",
        headers={"retry-after": str(_RETRY_AFTER_S)},
    )
