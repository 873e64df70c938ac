"""/v1/users/{user}: where a user is, what is stored for them, the end of their sessions, and of all that is known of them.

Redis says who is online, MongoDB what is stored. Frames go out as they were stored, byte for byte: what a client of the API
reads is what the user's devices get.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

import anyio
import msgspec
import structlog
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from router.api.bounds import Room
from router.api.openapi import AWAY, USER
from router.api.times import rfc3339, rfc3339_of_ms
from router.cursors import Cursors
from router.directory import read_routes
from router.forget import Forgetting, Forgotten
from router.http.operations import JSON, Answer, Id, Operation, Parameter, Time
from router.http.problems import Problem
from router.inbox import Inbox
from router.keys import Keys
from router.kick import kick
from router.settings import Settings
from router.shards import shard_of_id
from router.targets import USER_PREFIX, check_id

log = structlog.get_logger(__name__)

SEQ_MAX: Final = 2**53 - 1
"""Largest seq that JSON readers keep exactly."""

CURSORS_MAX: Final = 1_000
"""Most cursors of a user that are told of."""

PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 1_000
"""Most messages in a page."""

_PAGE_MAX_BYTES: Final = 4_194_304
"""A page ends behind the message that takes it past this, however many were asked for."""

_NUMBER_MAX_DIGITS: Final = 16

FORGETTING_MAX: Final = 2
"""Most people who are erased at once: each takes streams and MongoDB some work. Others wait for their turn."""

_RETRY_AFTER_S: Final = 5
"""When to erase again where something was in the way."""

Seq = Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]


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


class MessageFrame(msgspec.Struct, frozen=True, tag_field="type", tag="message"):
    """A message as the user's devices get it; either `body` or `text` is there."""

    to: str
    seq: Seq
    id: Id
    ts: Annotated[int, msgspec.Meta(description="When it was appended, Unix ms.")]
    body: Any | msgspec.UnsetType = msgspec.UNSET
    text: str | msgspec.UnsetType = msgspec.UNSET


class UserMessages(msgspec.Struct, frozen=True):
    """Some of a user's messages, by seq. `next` is what to give as `after` for those behind; null when there are none."""

    user: Id
    messages: tuple[MessageFrame, ...]
    next: Seq | None


class _Spliced(msgspec.Struct, frozen=True):
    """`UserMessages` of frames that are JSON already."""

    user: str
    messages: list[msgspec.Raw]
    next: int | None


class KickedState(msgspec.Struct, frozen=True):
    """The nodes that were told to close the user's sessions."""

    user: Id
    nodes: tuple[Id, ...]


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
    routes=0,
    keys=2,
    entries={"in": 1, "fast": 0, "out": 0, "dead": 3, "offline": 12, "trace": 0},
    replaced={"in": 0, "fast": 0, "out": 0, "dead": 1, "offline": 0, "trace": 0},
)
_EXAMPLE_MESSAGE = MessageFrame("user:alice", _SEQ, "order-4711", 1795360470695, body={"text": "hello"})

GET_USER: Final = Operation(
    id="get_user",
    method="GET",
    path="/v1/users/{user}",
    summary="Where a user is",
    description="Whether the user is online, on which nodes, the seq of the newest message, and up to where each named device "
    f"has acknowledged, {CURSORS_MAX:,} cursors at most. A user is known by nothing but that: any id is answered.",
    parameters=(USER,),
    answers=(Answer(HTTPStatus.OK, UserState, "Where the user is now.", example=_EXAMPLE),),
    problems=AWAY,
)

GET_USER_MESSAGES: Final = Operation(
    id="get_user_messages",
    method="GET",
    path="/v1/users/{user}/messages",
    summary="What is stored for a user",
    description="The user's own messages whose time is not over, by seq, as the devices get them. A page may hold fewer than "
    "`limit`, even none, and not be the last: go on with `after` = `next` until that is null.",
    parameters=(
        USER,
        Parameter("after", "query", Seq, "The seq to begin behind; 0 for all that is stored.", example=0),
        Parameter(
            "limit",
            "query",
            Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)],
            f"Most messages in the answer; {PAGE_DEFAULT} unless given. It ends earlier behind {_PAGE_MAX_BYTES:,} bytes.",
            example=PAGE_DEFAULT,
        ),
    ),
    answers=(Answer(HTTPStatus.OK, UserMessages, "A page.", example=UserMessages("alice", (_EXAMPLE_MESSAGE,), next=_SEQ)),),
    problems=AWAY,
)

DELETE_SESSIONS: Final = Operation(
    id="delete_user_sessions",
    method="DELETE",
    path="/v1/users/{user}/sessions",
    summary="End a user's sessions",
    description="Has every node that holds the user close all of the user's sessions with 4502, which clients do not come back "
    "from by themselves. A session that is connecting at this moment may slip through, and a token is still good: to keep a "
    "user out, give out no more tokens, and end the sessions when the last has expired.",
    parameters=(USER,),
    answers=(
        Answer(
            HTTPStatus.ACCEPTED,
            KickedState,
            "The nodes were told; none where the user is not online.",
            example=KickedState("alice", ("edge-1.k3f9x0",)),
        ),
    ),
    problems=AWAY,
)


DELETE_USER: Final = Operation(
    id="delete_user",
    method="DELETE",
    path="/v1/users/{user}",
    summary="Erase a person",
    description="Ends the user's sessions and removes what stands of them: messages, cursors, routes, counters, and what is "
    "addressed to them in streams. Give them no more messages and tokens first. Messages that are addressed to others too "
    "reach those. Takes a second where there is anything; doing it twice is harmless.",
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
        settings: prefix and shards.
    """

    def __init__(self, redis: Redis, inbox: Inbox, cursors: Cursors, settings: Settings) -> None:
        self._redis = redis
        self._inbox = inbox
        self._cursors = cursors
        self._settings = settings
        self._forgetting = anyio.CapacityLimiter(FORGETTING_MAX)
        self._room = Room(settings.api_forgets_max, "requests to erase somebody")

    async def get(self, request: Request) -> Response:
        """Tell where a user is.

        Raises:
            RuleBroken: when the id is none.
            PyMongoError, RedisError: in an outage.
        """
        user = _user(request)
        routes = await read_routes(self._redis, self._settings, user)
        cursors = await self._cursors.all_of_user(user, CURSORS_MAX + 1)
        state = UserState(
            user=user,
            online=any(route.live for route in routes),
            head=await self._head(user),
            routes=tuple(
                RouteState(route.node, rfc3339_of_ms(route.expiry_ms), route.node_alive)
                for route in routes
                if route.left_ms > 0
            ),
            cursors=tuple(CursorState(*cursor[:-1], rfc3339(cursor.seen_at)) for cursor in cursors[:CURSORS_MAX]),
            more_cursors=len(cursors) > CURSORS_MAX,
        )
        return Response(msgspec.json.encode(state), media_type=JSON)

    async def get_messages(self, request: Request) -> Response:
        """Give a page of what is stored for a user.

        Raises:
            RuleBroken: when the id is none.
            Problem: 400 when `after` or `limit` is no such number.
            PyMongoError: in an outage.
        """
        user = _user(request)
        after = _number(request, "after", default=0, least=0, most=SEQ_MAX)
        limit = _number(request, "limit", default=PAGE_DEFAULT, least=1, most=PAGE_MAX)
        page = await self._inbox.page(USER_PREFIX + user, after, SEQ_MAX, limit, _PAGE_MAX_BYTES)
        frames = [msgspec.Raw(frame) for _, frame in page.messages]
        answer = _Spliced(user, frames, None if page.whole else page.reached)
        return Response(msgspec.json.encode(answer), media_type=JSON)

    async def delete_sessions(self, request: Request) -> Response:
        """Have a user's sessions closed.

        Raises:
            RuleBroken: when the id is none.
            RedisError: in an outage; it is unknown which nodes were told.
        """
        user = _user(request)
        nodes = await kick(self._redis, self._settings, user, "the sessions were ended by the service")
        log.info("user_kicked", user=user, nodes=len(nodes))
        return Response(msgspec.json.encode(KickedState(user, tuple(nodes))), HTTPStatus.ACCEPTED, media_type=JSON)

    async def delete(self, request: Request) -> Response:
        """Erase a person.

        Raises:
            RuleBroken: when the id is none.
            Problem: 503 when something is left.
            PyMongoError, RedisError: in an outage; it is unknown what is gone.
        """
        user = _user(request)
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
            return await Forgetting(self._redis, self._inbox, self._cursors, self._settings, user).run()

    async def _head(self, user: str) -> int:
        keys, target = Keys(self._settings.prefix, shard_of_id(user, self._settings.shards)), USER_PREFIX + user
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hmget(keys.seq(target), "handed", "era")
            pipe.hget(keys.era(), "era")
            (handed, its_era), era = await pipe.execute()
        # A head of another era counts for nothing: MongoDB's newest does.
        if handed is not None and handed.isdigit() and its_era == era:
            return int(handed)
        return await self._inbox.newest_above(target, 0)


def _user(request: Request) -> str:
    """Return the user whom a request is about.

    Raises:
        RuleBroken: when that is no id.
    """
    return check_id(request.path_params["user"], "user")


def _number(request: Request, name: str, *, default: int, least: int, most: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= _NUMBER_MAX_DIGITS else -1
    if not least <= number <= most:
        raise Problem(
            HTTPStatus.BAD_REQUEST, f"{name} takes a whole number from {least} to {most}, not {text[:32]!r}", field=name
        )
    return number
