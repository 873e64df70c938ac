"""Telling clients who else has subscribed to a topic: the lines of `edge.members` and `edge.watches`, out and in.

What is due is gathered for `GATHER_S`, so that churn makes few lines, and published one write after the other: a line of a node
never overtakes the one before. What may not have got through is told whole the next time. While anything is watched, `nodes` of
its shard is looked at three times in the life of a heartbeat, for the edges that have died without a word.

Whoever watches is written to as by delivery: straight, and a client that does not read is ended by its own buffer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import anyio
import msgspec
import structlog
from redis.asyncio import Redis

from edge.feed import Feed
from edge.frames import encode
from edge.members import MEMBERS, WATCHED, Telling, Told, Watched
from edge.position import Outlet
from edge.watches import Saying, Watches
from router.keys import Keys
from router.metrics import WATCHED_TOPICS
from router.outage import Outages
from router.redis_client import OUTAGE
from router.settings import Settings
from router.shards import shard_of_id
from router.targets import TOPIC_PREFIX

log = structlog.get_logger(__name__)

GATHER_S: Final = 0.1
"""How long changes are gathered: what a person does not notice."""

BATCH_MAX: Final = 256
"""Most lines in one write."""

_LOOKS_A_LIFE: Final = 3
"""How often heartbeats are looked at in the life of one."""


class Watching:
    """Tells of the members of topics, and hears of them.

    Args:
        redis: where lines are published, and heartbeats stand.
        settings: shards, `route_ttl_ms` (the lease), `node_ttl_ms`, `members_max`.
        node: the node id.
        users_of: returns the users with a session that has subscribed to a topic here, as a new set.
        outages: waits between failed tries.
    """

    def __init__(
        self, redis: Redis, settings: Settings, node: str, users_of: Callable[[str], set[str]], outages: Outages
    ) -> None:
        self._redis = redis
        self._keys = [Keys(settings.prefix, shard) for shard in range(settings.shards)]
        self._timeout_s = settings.redis_timeout_s
        self._lease_s = settings.route_ttl_ms / 1000
        self._node_s = settings.node_ttl_ms / 1000
        self._outages = outages
        self._telling = Telling(node, users_of, self._lease_s, settings.members_max)
        self._watches = Watches[Outlet](node, self._lease_s, self._node_s, settings.members_max)
        self._publishing = anyio.Lock()
        self._due = anyio.Event()
        self._watched = anyio.Event()
        WATCHED_TOPICS.set_function(lambda: len(self._watches.topics))

    # -- called by feeds and sessions --------------------------------------------------------------------------------

    def came(self, feed: Feed, outlet: Outlet) -> None:
        """A session has subscribed to a topic."""
        del outlet
        self._telling.changed(_topic(feed), first=feed.joined == 1)
        self._ring()

    def went(self, feed: Feed, outlet: Outlet) -> None:
        """A session hears of a topic no more."""
        self._watches.end(_topic(feed), outlet)
        self._telling.changed(_topic(feed))
        self._ring()

    def watch(self, topic: str, outlet: Outlet) -> None:
        """Have a session that has subscribed to a topic told who else has, until it leaves."""
        self._watches.begin(topic, outlet, time.monotonic())
        self._watched.set()
        self._due.set()

    # -- called by delivery and the subscriber -----------------------------------------------------------------------

    def hear_watched(self, payload: bytes) -> None:
        """Take in a line `watched`.

        Raises:
            ValueError: when it is none.
        """
        self._telling.watched(_watched.decode(payload), time.monotonic())
        self._ring()

    def hear_members(self, payload: bytes) -> None:
        """Take in a line `members`.

        Raises:
            ValueError: when it is none.
        """
        if self._watches.topics:
            _say(self._watches.hear(_told.decode(payload), time.monotonic()))
            self._due.set()

    def subscribed(self) -> None:
        """All channels are subscribed, after a loss maybe."""
        self._watches.begin_anew(time.monotonic())
        self._due.set()

    # -- run by the edge ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Tell and ask until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._look_for_the_dead)
            while True:
                await self._wait()
                await anyio.sleep(GATHER_S)
                try:
                    await self._publish()
                except OUTAGE as exc:
                    await self._outages.wait("redis", exc)
                else:
                    self._outages.over()

    async def flush(self) -> None:
        """Tell what is still to be told: an edge that stops waits for this, but not for long."""
        try:
            with anyio.fail_after(self._timeout_s):
                await self._publish()
        except OUTAGE as exc:  # TimeoutError is one of them
            log.warning("members_untold", error=str(exc))

    def _ring(self) -> None:
        if self._telling.due:
            self._due.set()

    async def _wait(self) -> None:
        """Return when something is due, or leases are to be looked at."""
        until_s = min(self._watches.next_s(), time.monotonic() + self._lease_s if len(self._telling) else math.inf)
        with anyio.move_on_after(max(0.0, until_s - time.monotonic()) if until_s < math.inf else None):
            await self._due.wait()
        self._due = anyio.Event()

    async def _publish(self) -> None:
        """Publish what is due, and tell watchers what is.

        Raises:
            RedisError, OSError: when some of it may not have got through; it is due again.
        """
        async with self._publishing:
            now_s = time.monotonic()
            _say(self._watches.pass_time(now_s))
            lines: list[Told | Watched] = [*self._telling.take(now_s), *self._watches.asks(now_s)]
            batches = [lines[first : first + BATCH_MAX] for first in range(0, len(lines), BATCH_MAX)]
            problems = [problem for batch in batches if (problem := await self._send(batch))]
        if problems:
            raise problems[0]

    async def _send(self, lines: Sequence[Told | Watched]) -> Exception | None:
        """Publish some lines in one go; return what kept one of them from it."""
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for line in lines:
                    pipe.spublish(self._keys_of(line.topic).topic_channel(line.topic), _packed(line))
                answers: list[Any] = await pipe.execute(raise_on_error=False)
        except OUTAGE as exc:
            answers = [exc] * len(lines)
        for line, answer in zip(lines, answers, strict=True):
            self._note(line, answer)
        return next((answer for answer in answers if isinstance(answer, Exception)), None)

    def _note(self, line: Told | Watched, answer: int | Exception) -> None:
        now_s = time.monotonic()
        if isinstance(line, Told):
            if isinstance(answer, Exception):
                self._telling.untold(line.topic)
                self._due.set()
        elif isinstance(answer, Exception):
            self._watches.unasked(line.topic, now_s)
        elif line.of is None:
            _say(self._watches.awaited(line.topic, answer, now_s))

    # -- the dead ----------------------------------------------------------------------------------------------------

    async def _look_for_the_dead(self) -> None:
        while True:
            if not self._watches.topics:
                self._watched = anyio.Event()
                await self._watched.wait()
            await anyio.sleep(self._node_s / _LOOKS_A_LIFE)
            for keys in self._keys:
                await self._look(keys)

    async def _look(self, keys: Keys) -> None:
        """Have the users of one shard's dead nodes leave. What cannot be read now is the next time."""
        topics = [topic for topic in self._watches.topics if self._keys_of(topic) is keys]
        if not topics:
            return
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.time()
                pipe.zrange(keys.nodes(), 0, -1, withscores=True)
                (seconds, us), nodes = await pipe.execute()
        except OUTAGE as exc:
            log.warning("nodes_unread", shard=keys.shard, error=str(exc))
            return
        now_ms = seconds * 1_000 + us / 1_000
        # A name that is no UTF-8 is by hand, and nobody's.
        alive = {node.decode(errors="replace") for node, expires_ms in nodes if expires_ms > now_ms}
        _say(self._watches.alive(topics, alive, time.monotonic()))

    def _keys_of(self, topic: str) -> Keys:
        return self._keys[shard_of_id(topic, len(self._keys))]


_watched: Final = msgspec.json.Decoder(Watched)
_told: Final = msgspec.json.Decoder(Told)


def _topic(feed: Feed) -> str:
    return feed.position.target.removeprefix(TOPIC_PREFIX)


def _packed(line: Told | Watched) -> bytes:
    # JSON escapes whatever would end the line.
    return (MEMBERS if isinstance(line, Told) else WATCHED) + b" - - - " + msgspec.json.encode(line)


def _say(sayings: Iterable[Saying[Outlet]]) -> None:
    for saying in sayings:
        data = b"".join(map(encode, saying.frames))
        for outlet in saying.watchers:
            # Whose buffer that fills ends, and leaves within the call; it is not walked over here.
            outlet.write(data)
