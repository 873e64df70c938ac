"""/v1/users/{user}: where a user is, and the end of all that is known of them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import anyio
import msgspec
import structlog
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from router.api.addresses import USER, Seq, user_of
from router.api.bounds import Room
from router.api.heads import read_head
from router.api.openapi import AWAY
from router.api.times import rfc3339, rfc3339_of_ms
from router.cursors import Cursors
from router.directory import read_routes
from router.forget import Forgetting, Forgotten
from router.http.operations import JSON, Answer, Id, Operation, Parameter, Time
from router.http.problems import Problem
from router.inbox import Inbox
from router.later import Later
from router.settings import Settings
from router.subscriptions import Subscriptions
from router.targets import USER_PREFIX

log = structlog.get_logger(__name__)

CURSORS_MAX: Final = 1_000
"""Most cursors of a user that are told of."""

FORGETTING_MAX: Final = 2
"""Most people who are erased at once: each takes streams and MongoDB some work. Others wait for their turn."""

_RETRY_AFTER_S: Final = 5
"""When to erase again where something was in the way."""


class RouteState(msgspec.Struct, frozen=True):
    """A node that holds the user. `expires_at` is when the route lapses unless the node renews it."""

    node: Id
    expires_at: Time
    node_alive: bool


class CursorState(msgspec.Struct, frozen=True):
    """Up to where a device has acknowledged the messages of a target, and when it came or acknowledged last."""

    device: Id
    target: str
    seq: Seq
    seen_at: Time


class UserState(msgspec.Struct, frozen=True):
    """Where a user is.

    Attributes:
        online: a node that is alive holds a route that has not lapsed.
        head: the highest seq of the user's own messages that was handed on; 0 where there never was one.
        more_cursors: there are more than those told of.
    """

    user: Id
    online: bool
    head: Seq
    routes: tuple[RouteState, ...]
    cursors: tuple[CursorState, ...]
    more_cursors: bool


_SEQ = 1795360470698378
_EXAMPLE = UserState(
    "alice",
    online=True,
    head=_SEQ,
    routes=(RouteState("edge-1.k3f9x0", "2026-11-22T17:15:30.000Z", node_alive=True),),
    cursors=(CursorState("phone", "user:alice", _SEQ, "2026-11-22T17:14:33.120Z"),),
    more_cursors=False,
)
_EXAMPLE_FORGOTTEN = Forgotten(
    user="somebody-who-left",
    complete=True,
    nodes=("edge-1.k3f9x0",),
    messages=1204,
    cursors=2,
    topics=3,
    routes=0,
    keys=2,
    entries={"in": 1, "fast": 0, "out": 0, "dead": 3, "offline": 12, "trace": 0, "events": 4},
    replaced={"in": 0, "fast": 0, "out": 0, "dead": 1, "offline": 0, "trace": 0, "events": 0},
)
GET_USER: Final = Operation(
    id="get_user",
    method="GET",
    path="/v1/users/{user}",
    scope="read",
    summary="Where a user is",
    description="Whether the user is online, on which nodes, the seq of the newest message, and up to where each named device "
    f"has acknowledged, {CURSORS_MAX:,} cursors at most. A user is known by nothing but that: any id is answered.",
    parameters=(USER,),
    answers=(Answer(HTTPStatus.OK, UserState, "Where the user is now.", example=_EXAMPLE),),
    problems=AWAY,
)


DELETE_USER: Final = Operation(
    id="delete_user",
    method="DELETE",
    path="/v1/users/{user}",
    scope="manage",
    summary="Erase a person",
    description="Ends the user's sessions and removes what stands of them: messages, cursors, topics, routes, counters, and "
    "what is addressed to them in streams. Give them no more messages and tokens first. Messages that are addressed to others "
    "too reach those. Takes a second where there is anything; doing it twice is harmless.",
    parameters=(Parameter("user", "path", Id, "The user's id, percent-encoded.", example="somebody-who-left"),),
    answers=(Answer(HTTPStatus.OK, Forgotten, "Nothing is left of the user.", example=_EXAMPLE_FORGOTTEN),),
    problems={
        HTTPStatus.SERVICE_UNAVAILABLE: "MongoDB or Redis cannot be asked, too many are being erased (`api_forgets_max`), or "
        "something is still in the way, which `detail` tells: delete again. What was found is gone."
    },
)


class Users:
    """Answers for users.

    Args:
        redis: where routes and heads are.
        inbox: what is stored.
        cursors: what devices have acknowledged.
        subscriptions: what stands for users.
        settings: prefix and shards.
    """

    def __init__(
        self, redis: Redis, inbox: Inbox, cursors: Cursors, subscriptions: Subscriptions, later: Later, settings: Settings
    ) -> None:
        self._redis = redis
        self._inbox = inbox
        self._cursors = cursors
        self._subscriptions = subscriptions
        self._later = later
        self._settings = settings
        self._forgetting = anyio.CapacityLimiter(FORGETTING_MAX)
        self._room = Room(settings.api_forgets_max, "requests to erase somebody")

    async def get(self, request: Request) -> Response:
        """Tell where a user is.

        Raises:
            RuleBroken: when the id is none.
            PyMongoError, RedisError: in an outage.
        """
        user = user_of(request)
        routes = await read_routes(self._redis, self._settings, user)
        cursors = await self._cursors.all_of_user(user, CURSORS_MAX + 1)
        state = UserState(
            user=user,
            online=any(route.live for route in routes),
            head=await read_head(self._redis, self._inbox, self._settings, USER_PREFIX + user),
            routes=tuple(
                RouteState(route.node, rfc3339_of_ms(route.expiry_ms), route.node_alive)
                for route in routes
                if route.left_ms > 0
            ),
            cursors=tuple(CursorState(*cursor[:-1], rfc3339(cursor.seen_at)) for cursor in cursors[:CURSORS_MAX]),
            more_cursors=len(cursors) > CURSORS_MAX,
        )
        return Response(msgspec.json.encode(state), media_type=JSON)

    async def delete(self, request: Request) -> Response:
        """Erase a person.

        Raises:
            RuleBroken: when the id is none.
            Problem: 503 when something is left.
            PyMongoError, RedisError: in an outage; it is unknown what is gone.
        """
        user = user_of(request)
        with self._room.share() as take:
            take(1)
            forgotten = await self._forget(user)
        # Without the name: it is to be gone.
        log.info("person_forgotten", complete=forgotten.complete, messages=forgotten.messages, left=len(forgotten.left))
        if not forgotten.complete:
            detail = f"not all of it is gone yet ({'; '.join(forgotten.left)}); delete again"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"retry-after": str(_RETRY_AFTER_S)})
        return Response(msgspec.json.encode(forgotten), media_type=JSON)

    async def _forget(self, user: str) -> Forgotten:
        async with self._forgetting:
            stores = self._redis, self._inbox, self._cursors, self._subscriptions, self._later
            return await Forgetting(*stores, self._settings, user).run()
