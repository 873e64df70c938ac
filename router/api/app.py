"""The operations of the API and who answers them, and an outage that is told as one."""

from __future__ import annotations

from pymongo.errors import PyMongoError
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from router.api.append.post import POST_MESSAGES, Append
from router.api.away import away
from router.api.health import GET_READYZ, Readiness
from router.api.messages import GET_MESSAGE, Messages
from router.api.nodes import GET_NODES, Nodes
from router.api.openapi import ABOUT
from router.api.page import Page
from router.api.users import DELETE_SESSIONS, DELETE_USER, GET_USER, GET_USER_MESSAGES, Users
from router.http.app import Handler, http_app
from router.http.operations import Operation
from router.ops import Health
from router.settings import Settings


def api_app(
    settings: Settings,
    health: Health,
    append: Append,
    messages: Messages,
    users: Users,
    nodes: Nodes,
    page: Page | None = None,
) -> Starlette:
    """Return the application; the page is for development."""
    handlers: dict[Operation, Handler] = {
        POST_MESSAGES: append.post,
        GET_MESSAGE: messages.get,
        GET_USER: users.get,
        GET_USER_MESSAGES: users.get_messages,
        DELETE_SESSIONS: users.delete_sessions,
        DELETE_USER: users.delete,
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
            raise away(exc) from exc

    return answer
