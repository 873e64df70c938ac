"""/v1/users/{user}/topics: the standing subscriptions of a user."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec
import structlog
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from router.api.addresses import TOPIC, USER, topic_of, user_of
from router.api.away import unavailable
from router.api.openapi import AWAY
from router.http.operations import JSON, Answer, Id, Operation
from router.http.problems import Problem
from router.settings import Settings
from router.subscriptions import NotTold, Subscriptions, TooManyTopics, subscribe, unsubscribe

log = structlog.get_logger(__name__)


class UserTopics(msgspec.Struct, frozen=True):
    """The topics that stand for a user, in the order in which they were added."""

    user: Id
    topics: tuple[Id, ...]


class Standing(msgspec.Struct, frozen=True):
    """A topic that stands for a user."""

    user: Id
    topic: Id


_EXAMPLE: Final = Standing("alice", "news")
_UNSURE: Final = (
    "MongoDB or Redis cannot be asked, and it is unknown whether it is written, or who was told of it: repeat it. "
    "`Retry-After` says when."
)

GET_TOPICS: Final = Operation(
    id="get_user_topics",
    method="GET",
    path="/v1/users/{user}/topics",
    scope="read",
    summary="What stands for a user",
    description="The topics that back ends have subscribed the user to; not those that a client or a token asks for.",
    parameters=(USER,),
    answers=(Answer(HTTPStatus.OK, UserTopics, "All of them.", example=UserTopics("alice", ("news",))),),
    problems=AWAY,
)

PUT_TOPIC: Final = Operation(
    id="subscribe_user",
    method="PUT",
    path="/v1/users/{user}/topics/{topic}",
    scope="manage",
    summary="Subscribe a user",
    description="Every session of the user, now and to come, hears the topic, whatever its token grants, until it is deleted. "
    "May be repeated.",
    parameters=(USER, TOPIC),
    answers=(
        Answer(HTTPStatus.CREATED, Standing, "It stands now.", example=_EXAMPLE),
        Answer(HTTPStatus.OK, Standing, "It stood already, and the sessions were told once more.", example=_EXAMPLE),
    ),
    problems={
        HTTPStatus.CONFLICT: "As many topics stand for the user as may (`subscriptions_user_max`).",
        HTTPStatus.SERVICE_UNAVAILABLE: _UNSURE,
    },
)

DELETE_TOPIC: Final = Operation(
    id="unsubscribe_user",
    method="DELETE",
    path="/v1/users/{user}/topics/{topic}",
    scope="manage",
    summary="Unsubscribe a user",
    description="The topic stands no more, and ends in all sessions of the user, also where a client had asked for it itself. "
    "May be repeated.",
    parameters=(USER, TOPIC),
    answers=(Answer(HTTPStatus.NO_CONTENT, None, "It does not stand, and the sessions were told."),),
    problems={HTTPStatus.SERVICE_UNAVAILABLE: _UNSURE},
)


class StandingSubscriptions:
    """Answers for standing subscriptions.

    Args:
        redis: where routes are.
        subscriptions: where they stand.
        settings: prefix and shards.
    """

    def __init__(self, redis: Redis, subscriptions: Subscriptions, settings: Settings) -> None:
        self._redis = redis
        self._subscriptions = subscriptions
        self._settings = settings

    async def get(self, request: Request) -> Response:
        """Tell what stands for a user.

        Raises:
            RuleBroken: when the id is none.
            PyMongoError: in an outage.
        """
        user = user_of(request)
        topics = await self._subscriptions.topics_of(user)
        return Response(msgspec.json.encode(UserTopics(user, tuple(topics))), media_type=JSON)

    async def put(self, request: Request) -> Response:
        """Subscribe a user.

        Raises:
            RuleBroken: when an id is none.
            Problem: 409 when as many stand as may; 503 when it is unknown who was told.
            PyMongoError: in an outage; it is unknown whether it is written.
        """
        user, topic = user_of(request), topic_of(request)
        try:
            new = await subscribe(self._redis, self._subscriptions, self._settings, user, topic)
        except TooManyTopics as exc:
            raise Problem(HTTPStatus.CONFLICT, exc.rule, field="topic") from exc
        except NotTold as exc:
            raise unavailable(str(exc)) from exc
        log.info("user_subscribed", user=user, topic=topic, new=new)
        status = HTTPStatus.CREATED if new else HTTPStatus.OK
        return Response(msgspec.json.encode(Standing(user, topic)), status, media_type=JSON)

    async def delete(self, request: Request) -> Response:
        """Unsubscribe a user.

        Raises:
            RuleBroken: when an id is none.
            Problem: 503 when it is unknown who was told.
            PyMongoError: in an outage; it is unknown whether it is written.
        """
        user, topic = user_of(request), topic_of(request)
        try:
            stood = await unsubscribe(self._redis, self._subscriptions, self._settings, user, topic)
        except NotTold as exc:
            raise unavailable(str(exc)) from exc
        log.info("user_unsubscribed", user=user, topic=topic, stood=stood)
        return Response(status_code=HTTPStatus.NO_CONTENT)
