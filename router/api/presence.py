"""Who is online: of many users at a time, and page by page."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

import anyio
import msgspec
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from router.api.addresses import read_number
from router.api.bounds import Room
from router.api.openapi import AWAY
from router.api.times import rfc3339_of_ms
from router.errors import RuleBroken
from router.http.media import check_json
from router.http.operations import JSON, Answer, Body, Id, Operation, Parameter, Time
from router.http.problems import Problem, read_body
from router.presence import USERS_MAX, Presence, online_users, presence_of
from router.settings import Settings
from router.targets import check_id

PAGE_DEFAULT: Final = 1_000
PAGE_MAX: Final = 10_000
"""About how many users a page has at most."""

_BODY_MAX_BYTES: Final = 8_388_608
"""Ten thousand ids of 128 characters, each of them escaped as `\\u0041`, and some white space."""

_AT_ONCE: Final = 2
"""Requests about many users that are worked on at once: each takes Redis some twenty milliseconds, in slices."""


class PresenceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is asked after; at most 10,000."""

    users: list[Id]


class PresenceNode(msgspec.Struct, frozen=True):
    """A node that the user is on, and the devices there that have a name."""

    node: Id
    devices: tuple[Id, ...]


class PresenceState(msgspec.Struct, frozen=True):
    """Whether a user is there. `since` is null for who is not, and where nobody noted it."""

    user: Id
    online: bool
    since: Time | None
    nodes: tuple[PresenceNode, ...]


class PresenceStates(msgspec.Struct, frozen=True):
    """Whether some users are there, each in the place where it was asked after."""

    users: tuple[PresenceState, ...]


class OnlineUser(msgspec.Struct, frozen=True):
    """Who is online, and since when."""

    user: Id
    since: Time


class OnlineUsers(msgspec.Struct, frozen=True):
    """Some of those who are online. `next` is what to give as `after` for more of them; null when there are none."""

    users: tuple[OnlineUser, ...]
    next: str | None


_SINCE: Final = "2026-11-22T17:14:33.120Z"
_EXAMPLE: Final = PresenceStates(
    (
        PresenceState("alice", online=True, since=_SINCE, nodes=(PresenceNode("edge-1.k3f9x0", ("phone",)),)),
        PresenceState("bob", online=False, since=None, nodes=()),
    )
)

POST_PRESENCE: Final = Operation(
    id="query_presence",
    method="POST",
    path="/v1/presence",
    scope="read",
    summary="Whether users are online",
    description="Of up to 10,000 users: whether each is online, since when, on which nodes and devices. It only asks.",
    body=Body(PresenceRequest, "Who is asked after.", example={"users": ["alice", "bob"]}),
    answers=(Answer(HTTPStatus.OK, PresenceStates, "One each, in the order asked.", example=_EXAMPLE),),
    problems={
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "More users than 10,000, or too long.",
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The request does not say that it is JSON, or is compressed.",
        HTTPStatus.SERVICE_UNAVAILABLE: "Redis cannot be asked, or too much is in hand; `Retry-After` says when to try again.",
    },
)

GET_ONLINE: Final = Operation(
    id="get_online",
    method="GET",
    path="/v1/online",
    scope="read",
    summary="Who is online",
    description="Page by page, in no order. Who comes or goes meanwhile may be in it or not, or twice. A page may be empty and "
    "not be the last, or longer than `limit`: go on with `after` = `next` until that is null.",
    parameters=(
        Parameter(
            "after",
            "query",
            Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,4}-[0-9]{1,20}$")],
            "The `next` of the page before.",
        ),
        Parameter(
            "limit",
            "query",
            Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)],
            f"About how many; {PAGE_DEFAULT:,} unless given.",
            example=PAGE_DEFAULT,
        ),
    ),
    answers=(Answer(HTTPStatus.OK, OnlineUsers, "A page.", example=OnlineUsers((OnlineUser("alice", _SINCE),), next="0-128")),),
    problems=AWAY,
)

_decoder: Final = msgspec.json.Decoder(PresenceRequest)


class Presences:
    """Answers for who is online.

    Args:
        redis: where that is noted.
        settings: prefix and shards.
    """

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._line = anyio.CapacityLimiter(_AT_ONCE)
        self._room = Room(settings.api_in_hand_max_bytes, "bytes of requests about presence")

    async def post(self, request: Request) -> Response:
        """Tell whether users are online.

        Raises:
            RuleBroken: when one is no id.
            Problem: 400 when it is no such request, 413, 415; 503 when too much is in hand.
            RedisError, OSError: in an outage.
        """
        check_json(request)
        with self._room.share() as take:
            users = _read(await read_body(request, _BODY_MAX_BYTES, take))
            async with self._line:
                found = await presence_of(self._redis, self._settings, users)
            return _respond(PresenceStates(tuple(map(_state, found))))

    async def get_online(self, request: Request) -> Response:
        """Give a page of those who are online.

        Raises:
            Problem: 400 when `after` or `limit` is no such thing.
            RedisError, OSError: in an outage.
        """
        limit = read_number(request, "limit", default=PAGE_DEFAULT, least=1, most=PAGE_MAX)
        try:
            page = await online_users(self._redis, self._settings, request.query_params.get("after"), limit)
        except ValueError as exc:
            raise Problem(HTTPStatus.BAD_REQUEST, f"after: {str(exc)[:128]} of a page before", field="after") from None
        return _respond(OnlineUsers(tuple(OnlineUser(user, rfc3339_of_ms(ms)) for user, ms in page.users.items()), page.next))


def _read(body: bytes) -> list[str]:
    try:
        users = _decoder.decode(body).users
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise Problem(HTTPStatus.BAD_REQUEST, f'send {{"users": ["alice", …]}}: {exc}') from None
    if len(users) > USERS_MAX:
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{len(users)} users in one request: at most {USERS_MAX} are taken")
    for place, user in enumerate(users):
        try:
            check_id(user, "users")
        except RuleBroken as exc:
            raise RuleBroken(f"users[{place}]", exc.rule) from None
    return users


def _state(found: Presence) -> PresenceState:
    since = None if found.since_ms is None or not found.online else rfc3339_of_ms(found.since_ms)
    return PresenceState(found.user, found.online, since, tuple(PresenceNode(one.node, one.devices) for one in found.nodes))


def _respond(answer: Any) -> Response:  # noqa: ANN401 - a Struct
    return Response(msgspec.json.encode(answer), media_type=JSON)
