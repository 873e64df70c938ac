"""/v1/topics/{topic}: the place of a topic, and who has subscribed to it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

import anyio
import msgspec
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from router.api.addresses import TOPIC, Seq, read_number, topic_of
from router.api.bounds import Room
from router.api.heads import read_head
from router.api.openapi import AWAY
from router.http.operations import JSON, Answer, Id, Operation, Parameter
from router.inbox import Inbox
from router.keys import Keys
from router.members import USERS_MAX, Members, members_of
from router.settings import Settings
from router.shards import shard_of_id
from router.targets import TOPIC_PREFIX

MEMBERS_DEFAULT: Final = 1_000

_ASKING_AT_ONCE: Final = 4
ASKING_MAX: Final = 16
"""Most who ask for members at once, and with those who wait for their turn. Each has two of the few connections to Redis for as
long as an edge takes to answer, which may be `members_timeout_ms`."""


class TopicState(msgspec.Struct, frozen=True):
    """A topic.

    Attributes:
        head: the highest seq of its messages that was handed on; 0 where there never was one.
        edges: how many edges hear it just now: those with a session that has subscribed.
    """

    topic: Id
    head: Seq
    edges: int


class MemberState(msgspec.Struct, frozen=True):
    """A user who has subscribed to a topic, and with how many sessions."""

    user: Id
    sessions: int


class MembersState(msgspec.Struct, frozen=True):
    """Who has subscribed to a topic.

    Attributes:
        users: in the order of their names, as many as were asked for.
        users_total: how many users there are, named or not.
        sessions: how many sessions of theirs.
        edges: how many edges were asked.
        complete: all of them have answered, and have named all.
    """

    topic: Id
    users: tuple[MemberState, ...]
    users_total: int
    sessions: int
    edges: int
    complete: bool


_MEMBERS: Final = MembersState(
    "room-7", (MemberState("alice", 2), MemberState("bob", 1)), users_total=2, sessions=3, edges=2, complete=True
)

GET_TOPIC: Final = Operation(
    id="get_topic",
    method="GET",
    path="/v1/topics/{topic}",
    scope="read",
    summary="A topic",
    description="The seq of its newest message, and how many edges hear it. Topics are not registered: any name is answered.",
    parameters=(TOPIC,),
    answers=(Answer(HTTPStatus.OK, TopicState, "The topic now.", example=TopicState("news", 1795360470698378, edges=2)),),
    problems=AWAY,
)


GET_MEMBERS: Final = Operation(
    id="get_topic_members",
    method="GET",
    path="/v1/topics/{topic}/members",
    scope="read",
    summary="Who has subscribed to a topic",
    description="As the edges say at this moment; nothing of it is kept. Where one does not answer in time, or there are more "
    "users than it names, `complete` is false.",
    parameters=(
        TOPIC,
        Parameter(
            "limit",
            "query",
            Annotated[int, msgspec.Meta(ge=1, le=USERS_MAX)],
            f"Most users to name; {MEMBERS_DEFAULT:,} unless given. All are counted.",
            example=MEMBERS_DEFAULT,
        ),
    ),
    answers=(Answer(HTTPStatus.OK, MembersState, "Who is there.", example=_MEMBERS),),
    problems={
        HTTPStatus.SERVICE_UNAVAILABLE: "Redis cannot be asked, or too many are asking; `Retry-After` says when to try again."
    },
)


class Topics:
    """Answers for topics.

    Args:
        redis: where heads and channels are.
        inbox: what is stored.
        settings: prefix and shards.
    """

    def __init__(self, redis: Redis, inbox: Inbox, settings: Settings) -> None:
        self._redis = redis
        self._inbox = inbox
        self._settings = settings
        self._asking = anyio.CapacityLimiter(_ASKING_AT_ONCE)
        self._room = Room(ASKING_MAX, "requests for members")

    async def get(self, request: Request) -> Response:
        """Tell of a topic.

        Raises:
            RuleBroken: when that is no name of one.
            PyMongoError, RedisError: in an outage.
        """
        topic = topic_of(request)
        head = await read_head(self._redis, self._inbox, self._settings, TOPIC_PREFIX + topic)
        state = TopicState(topic, head, await self._edges(topic))
        return Response(msgspec.json.encode(state), media_type=JSON)

    async def get_members(self, request: Request) -> Response:
        """Tell who has subscribed to a topic.

        Raises:
            RuleBroken: when that is no name of one.
            Problem: 400 when `limit` is no such number, 503 when too many ask.
            RedisError, OSError: in an outage.
        """
        topic = topic_of(request)
        limit = read_number(request, "limit", default=MEMBERS_DEFAULT, least=1, most=USERS_MAX)
        with self._room.share() as take:
            take(1)
            async with self._asking:
                found = await members_of(self._redis, self._settings, topic, limit)
        return Response(msgspec.json.encode(_told(topic, found)), media_type=JSON)

    async def _edges(self, topic: str) -> int:
        channel = Keys(self._settings.prefix, shard_of_id(topic, self._settings.shards)).topic_channel(topic)
        # The driver's types name the replies of every protocol at once.
        counts: Any = await self._redis.pubsub_shardnumsub(channel)
        return sum(count for _, count in counts)


def _told(topic: str, found: Members) -> MembersState:
    users = tuple(MemberState(user, sessions) for user, sessions in found.users)
    return MembersState(topic, users, found.users_total, found.sessions, found.asked, found.complete)
