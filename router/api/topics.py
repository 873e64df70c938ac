"""/v1/topics/{topic}: the place of a topic, and who hears it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from router.api.addresses import TOPIC, Seq, topic_of
from router.api.heads import read_head
from router.api.openapi import AWAY
from router.http.operations import JSON, Answer, Id, Operation
from router.inbox import Inbox
from router.keys import Keys
from router.settings import Settings
from router.shards import shard_of_id
from router.targets import TOPIC_PREFIX


class TopicState(msgspec.Struct, frozen=True):
    """A topic.

    Attributes:
        head: the highest seq of its messages that was handed on; 0 where there never was one.
        edges: how many edges hear it just now: those with a session that has subscribed.
    """

    topic: Id
    head: Seq
    edges: int


GET_TOPIC: Final = Operation(
    id="get_topic",
    method="GET",
    path="/v1/topics/{topic}",
    summary="A topic",
    description="The seq of its newest message, and how many edges hear it. Topics are not registered: any name is answered.",
    parameters=(TOPIC,),
    answers=(Answer(HTTPStatus.OK, TopicState, "The topic now.", example=TopicState("news", 1795360470698378, edges=2)),),
    problems=AWAY,
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

    async def _edges(self, topic: str) -> int:
        channel = Keys(self._settings.prefix, shard_of_id(topic, self._settings.shards)).topic_channel(topic)
        # The driver's types name the replies of every protocol at once.
        counts: Any = await self._redis.pubsub_shardnumsub(channel)
        return sum(count for _, count in counts)
