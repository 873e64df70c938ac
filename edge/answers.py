"""Answering who of a topic is here, to whoever asks on the topic's channel (`router.members`).

Nothing of it happens where messages are delivered: a question is put in line, and one task answers them one by one. Who asks of
a topic that is in line already is answered together with it. At most `WAITING_MAX` askers wait; what comes beyond is dropped
and counted, and so is what Redis does not take at once: whoever asked has stopped waiting soon.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import anyio
import msgspec
import structlog
from redis.asyncio import Redis

from router.keys import Keys
from router.members import USERS_MAX, Answer, Asked
from router.metrics import ANSWERS_DROPPED
from router.redis_client import OUTAGE
from router.settings import Settings
from router.shards import shard_of_id

log = structlog.get_logger(__name__)

WAITING_MAX: Final = 256
"""Most askers in line: a second's work where topics are large."""


class Answers:
    """Answers what other processes ask of this node's topics.

    Args:
        redis: where answers are published.
        settings: prefix, shards, `members_timeout_ms`.
        node: the node id.
        users_of: returns the user of each session that has subscribed to a topic here.
    """

    def __init__(self, redis: Redis, settings: Settings, node: str, users_of: Callable[[str], Iterable[str]]) -> None:
        self._redis = redis
        self._keys = [Keys(settings.prefix, shard) for shard in range(settings.shards)]
        self._timeout_s = settings.members_timeout_ms / 1000
        self._node = node
        self._users_of = users_of
        self._line: dict[str, dict[str, None]] = {}
        self._waiting = 0
        self._asked = anyio.Event()

    def hear(self, payload: bytes) -> None:
        """Put a question in line.

        Raises:
            ValueError: when it is none, or names a channel that is no answer's.
        """
        asked = _decoder.decode(payload)
        keys = self._keys[shard_of_id(asked.topic, len(self._keys))]
        if not asked.to.startswith(keys.answer_channel("")):
            raise ValueError(f"{asked.to[:128]!r} is no answer channel of the topic's shard")
        if self._waiting >= WAITING_MAX:
            ANSWERS_DROPPED.inc()
            return
        self._line.setdefault(asked.topic, {})[asked.to] = None
        self._waiting += 1
        self._asked.set()

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            if not self._line:
                self._asked = anyio.Event()
                await self._asked.wait()
            topic = next(iter(self._line))
            channels = self._line.pop(topic)
            self._waiting = sum(map(len, self._line.values()))
            await self._answer(topic, channels)

    async def _answer(self, topic: str, channels: Iterable[str]) -> None:
        data = msgspec.json.encode(answer(self._node, self._users_of(topic)))
        try:
            with anyio.fail_after(self._timeout_s):
                async with self._redis.pipeline(transaction=False) as pipe:
                    for channel in channels:
                        pipe.spublish(channel, data)
                    await pipe.execute()
        except OUTAGE as exc:  # TimeoutError is one of them
            ANSWERS_DROPPED.inc()
            log.warning("answer_dropped", topic=topic, error=str(exc))


_decoder: Final = msgspec.json.Decoder(Asked)


def answer(node: str, users: Iterable[str], most: int = USERS_MAX) -> Answer:
    """Return what a node has, whose sessions are these users'. Pure."""
    counts = Counter(users)
    named = sorted(counts.items())[:most]
    return Answer(node, counts.total(), dict(named), cut=len(counts) > most)
