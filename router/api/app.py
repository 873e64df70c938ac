"""The operations of the API and who answers them, and an outage that is told as one."""

from __future__ import annotations

from typing import NamedTuple

from pymongo.errors import PyMongoError
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from router.api.append.post import POST_MESSAGES, Append
from router.api.away import away
from router.api.health import GET_READYZ, Readiness
from router.api.history import GET_ALL_MESSAGES, GET_TOPIC_MESSAGES, GET_USER_MESSAGES, History
from router.api.messages import DELETE_MESSAGE, GET_MESSAGE, Messages
from router.api.nodes import GET_NODES, Nodes
from router.api.openapi import ABOUT
from router.api.page import Page
from router.api.presence import GET_ONLINE, POST_PRESENCE, Presences
from router.api.sessions import DELETE_SESSIONS, Sessions
from router.api.subscriptions import DELETE_TOPIC, GET_TOPICS, PUT_TOPIC, StandingSubscriptions
from router.api.topics import GET_MEMBERS, GET_TOPIC, Topics
from router.api.users import DELETE_USER, GET_USER, Users
from router.api_keys.ring import Keyring
from router.cursors import Cursors
from router.http.app import Handler, http_app
from router.http.operations import Operation
from router.inbox import Inbox
from router.later import Later
from router.ops import Health
from router.redis_client import OUTAGE
from router.settings import Settings
from router.subscriptions import Subscriptions


class Stores(NamedTuple):
    """What the API answers from.

    Attributes:
        redis: who is where, and what is on its way.
        inbox: what is stored.
        cursors: what devices have acknowledged.
        subscriptions: what stands for users.
        later: what waits for its time.
    """

    redis: Redis
    inbox: Inbox
    cursors: Cursors
    subscriptions: Subscriptions
    later: Later


def api_app(
    settings: Settings, health: Health, stores: Stores, append: Append, keyring: Keyring, page: Page | None = None
) -> Starlette:
    """Return the application, for whoever shows a key of the ring; the page is for development."""
    redis, inbox, cursors, subscriptions, later = stores
    users = Users(redis, inbox, cursors, subscriptions, later, settings)
    history, topics = History(inbox), Topics(redis, inbox, settings)
    messages = Messages(redis, inbox, cursors, later, settings)
    presence, standing = Presences(redis, settings), StandingSubscriptions(redis, subscriptions, settings)
    handlers: dict[Operation, Handler] = {
        POST_MESSAGES: append.post,
        GET_MESSAGE: messages.get,
        DELETE_MESSAGE: messages.delete,
        GET_USER: users.get,
        GET_USER_MESSAGES: history.of_user,
        DELETE_SESSIONS: Sessions(redis, settings).delete,
        GET_TOPICS: standing.get,
        PUT_TOPIC: standing.put,
        DELETE_TOPIC: standing.delete,
        DELETE_USER: users.delete,
        POST_PRESENCE: presence.post,
        GET_ONLINE: presence.get_online,
        GET_TOPIC: topics.get,
        GET_MEMBERS: topics.get_members,
        GET_TOPIC_MESSAGES: history.of_topic,
        GET_ALL_MESSAGES: history.of_all,
        GET_NODES: Nodes(redis, settings).get,
        GET_READYZ: Readiness(settings, health).get,
    }
    return http_app(
        ABOUT,
        {operation: _telling_outages(handler) for operation, handler in handlers.items()},
        keyring=keyring,
        others=page.routes if page else (),
    )


def _telling_outages(handler: Handler) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except (PyMongoError, *OUTAGE) as exc:
            raise away(exc) from exc

    return answer
