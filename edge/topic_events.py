"""`subscribed` and `unsubscribed` in `push:{s}:events`, of the topics that a pattern of `events_topics` covers.

Of a user, not of a session: the first one on this node that subscribes to a topic, and the last that leaves it. Written behind,
in the order in which they happened, to the stream of the user's shard. At most `WAITING_MAX` wait, as while Redis is away; what
comes beyond is dropped and counted. An edge that stops writes what is left; one that is killed does not, and `gone` tells. One
that was only frozen, or cut off from Redis, says anew who is subscribed where `gone` was said of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import anyio
import structlog
from redis.asyncio import Redis

from edge.feed import Feed
from edge.position import Outlet
from router.grants import covers
from router.keys import Keys
from router.metrics import EVENTS_DROPPED
from router.outage import Outages
from router.redis_client import OUTAGE
from router.settings import Settings
from router.shards import shard_of_id
from router.targets import TOPIC_PREFIX

log = structlog.get_logger(__name__)

WAITING_MAX: Final = 50_000
"""Most events that wait: some ten megabytes."""

BATCH_MAX: Final = 500
"""Most events in one write."""

SUBSCRIBED: Final = "subscribed"
UNSUBSCRIBED: Final = "unsubscribed"


@dataclass(frozen=True, slots=True)
class TopicEvent:
    """A user's first session on this node has subscribed to a topic, or the last has left it."""

    event: str
    user: str
    topic: str


class TopicEvents:
    """Writes the events of one node.

    Args:
        redis: where the streams are.
        settings: prefix, shards, `events_topics`, `events_max`.
        node: the node id.
        user_of: returns whose a session is.
        outages: waits between failed tries.
    """

    def __init__(self, redis: Redis, settings: Settings, node: str, user_of: Callable[[Outlet], str], outages: Outages) -> None:
        self._redis = redis
        self._settings = settings
        self._node = node
        self._user_of = user_of
        self._outages = outages
        self._sessions: dict[str, Counter[str]] = {}
        self._waiting: deque[TopicEvent] = deque()
        self._noted = anyio.Event()
        self._writing = anyio.Lock()

    # -- called by feeds ---------------------------------------------------------------------------------------------

    def came(self, feed: Feed, outlet: Outlet) -> None:
        """A session has subscribed to a topic."""
        topic = feed.position.target.removeprefix(TOPIC_PREFIX)
        if not covers(self._settings.events_topics, topic):
            return
        user, sessions = self._user_of(outlet), self._sessions.setdefault(topic, Counter())
        sessions[user] += 1
        if sessions[user] == 1:
            self._note(TopicEvent(SUBSCRIBED, user, topic))

    def went(self, feed: Feed, outlet: Outlet) -> None:
        """A session hears of a topic no more."""
        topic = feed.position.target.removeprefix(TOPIC_PREFIX)
        sessions = self._sessions.get(topic)
        if sessions is None:
            return
        user = self._user_of(outlet)
        sessions[user] -= 1
        if not sessions[user]:
            del sessions[user]
            self._note(TopicEvent(UNSUBSCRIBED, user, topic))
        if not sessions:
            del self._sessions[topic]

    def say_anew(self, shard: int) -> None:
        """Say subscribed of all of a shard's users once more: `gone` has taken it back, or Redis has forgotten it."""
        for topic, sessions in self._sessions.items():
            for user in sessions:
                if shard_of_id(user, self._settings.shards) == shard:
                    self._note(TopicEvent(SUBSCRIBED, user, topic))

    # -- run by the edge ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            if not self._waiting:
                self._noted = anyio.Event()
                await self._noted.wait()
            try:
                await self._write()
            except OUTAGE as exc:
                await self._outages.wait("redis", exc)
            else:
                self._outages.over()

    async def flush(self) -> None:
        """Write what is left: an edge that stops waits for this, but not for long."""
        try:
            with anyio.fail_after(self._settings.redis_timeout_s):
                while self._waiting:
                    await self._write()
        except OUTAGE as exc:  # TimeoutError is one of them
            log.warning("events_unwritten", count=len(self._waiting), error=str(exc))

    def _note(self, event: TopicEvent) -> None:
        if len(self._waiting) >= WAITING_MAX:
            EVENTS_DROPPED.inc()
            return
        self._waiting.append(event)
        self._noted.set()

    async def _write(self) -> None:
        """Write the next batch.

        Raises:
            RedisError, OSError: when some of it may not have been written; that waits still, and is written again.
        """
        # As one: a batch that is in hand is still the first in line.
        async with self._writing:
            batch = list(islice(self._waiting, BATCH_MAX))
            shards: dict[int, list[TopicEvent]] = defaultdict(list)
            for event in batch:
                shards[shard_of_id(event.user, self._settings.shards)].append(event)
            problems = {shard: problem for shard, events in shards.items() if (problem := await self._append(shard, events))}
            for _ in batch:
                self._waiting.popleft()
            self._waiting.extendleft(event for shard in problems for event in reversed(shards[shard]))
        for problem in problems.values():
            raise problem

    async def _append(self, shard: int, events: Sequence[TopicEvent]) -> Exception | None:
        """Append events to a shard's stream, all or none of them; return what kept them from it."""
        settings, key = self._settings, Keys(self._settings.prefix, shard).events()
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                for event in events:
                    fields = {"event": event.event, "user": event.user, "topic": event.topic, "node": self._node}
                    pipe.xadd(key, fields, maxlen=settings.events_max, approximate=True)  # type: ignore[arg-type]
                await pipe.execute()
        except OUTAGE as exc:
            return exc
        return None
