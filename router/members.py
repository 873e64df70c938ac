"""Who has subscribed to a topic, as the edges say at this moment; nothing of it is kept anywhere.

    asked - - - {"topic":"room-7","to":"push:{0}:answer:5f0c…"}      on the topic's channel, which edges with a subscriber hear
    {"node":"edge-1.k3f9","sessions":2,"users":{"alice":2},"cut":false}      from each of them, on the answer channel

Redis tells how many have heard the question, so one knows how many answers there are to wait for. A tap on the topic's channel
counts too, and never answers: then what has come when the time is over counts.

What it promises: who had subscribed when the question came and has stayed is in it. What it does not: anything of an edge that
is cut off from Redis, which `asked` does not count, or that is flooded with questions, which makes it incomplete.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import msgspec
from redis.asyncio import Redis

from router.cluster_redis import client_at
from router.keys import Keys
from router.settings import Settings
from router.shards import shard_of_id

WORD: Final = b"asked"
"""In the place of a line's target."""

USERS_MAX: Final = 10_000
"""Most users that one edge names in an answer: about half a megabyte."""

_POLL_S: Final = 0.25
"""Longest wait for one reply; the driver's own time-out would end the connection."""


class Asked(msgspec.Struct, frozen=True):
    """The question: who of this topic is there, to be said on the channel `to`."""

    topic: str
    to: str


class Answer(msgspec.Struct, frozen=True):
    """What one edge has.

    Attributes:
        node: which edge.
        sessions: how many have subscribed there.
        users: user → sessions; at most `USERS_MAX` of them, in the order of their names.
        cut: there are more than that.
    """

    node: str
    sessions: int
    users: dict[str, int]
    cut: bool = False


_decoder: Final = msgspec.json.Decoder(Answer)


@dataclass(frozen=True, slots=True)
class Members:
    """Who has subscribed to a topic.

    Attributes:
        sessions: how many, on all edges.
        users: (user, sessions), in the order of their names, as many as were asked for.
        users_total: how many users there are, named or not.
        asked: how many have heard the question: edges, and taps.
        answered: how many edges have answered.
        complete: all that were asked have answered, and named all.
    """

    sessions: int
    users: list[tuple[str, int]]
    users_total: int
    asked: int
    answered: int
    complete: bool


@dataclass(slots=True)
class Tally:
    """The answers so far. Pure."""

    asked: int
    sessions: int = 0
    users: Counter[str] = field(default_factory=Counter)
    nodes: set[str] = field(default_factory=set)
    cut: bool = False

    @property
    def done(self) -> bool:
        """Whether there is nothing to wait for."""
        return len(self.nodes) >= self.asked

    def take(self, answer: Answer) -> None:
        """Count an answer; a second one of the same node counts for nothing."""
        if answer.node in self.nodes:
            return
        self.nodes.add(answer.node)
        self.sessions += answer.sessions
        self.users.update(answer.users)
        self.cut |= answer.cut

    def members(self, limit: int) -> Members:
        """Return what is known, with so many users."""
        named = sorted(self.users.items())[:limit]
        return Members(self.sessions, named, len(self.users), self.asked, len(self.nodes), complete=self.done and not self.cut)


async def members_of(redis: Redis, settings: Settings, topic: str, limit: int) -> Members:
    """Ask the edges who has subscribed to a topic.

    It takes two connections of the pool for as long as it lasts: who serves many bounds how many ask at once.

    Args:
        redis: where the channels are.
        settings: prefix, shards and `members_timeout_ms`, the longest that answers are waited for.
        topic: checked.
        limit: most users to name.

    Raises:
        RedisError, OSError: when Redis is away.
    """
    keys = Keys(settings.prefix, shard_of_id(topic, settings.shards))
    to = keys.answer_channel(secrets.token_hex(8))
    tally: Tally | None = None
    with anyio.move_on_after(settings.members_timeout_ms / 1000):
        async with _listening(redis, to, settings.redis_timeout_s) as pubsub:
            tally = Tally(await redis.spublish(keys.topic_channel(topic), ask_line(topic, to)))
            while not tally.done:
                reply = await _next(pubsub)
                if reply is not None and reply["type"] == "smessage":
                    tally.take(_decoder.decode(reply["data"]))
    if tally is None:
        raise TimeoutError(f"Redis has not taken the question within {settings.members_timeout_ms} ms")
    return tally.members(limit)


def ask_line(topic: str, to: str) -> bytes:
    """Return the line that asks."""
    # JSON escapes whatever would end the line.
    return WORD + b" - - - " + msgspec.json.encode(Asked(topic, to))


@asynccontextmanager
async def _listening(redis: Redis, channel: str, timeout_s: float) -> AsyncIterator[Any]:
    """Hear a channel within the block; once it is entered nothing is missed."""
    pubsub: Any = client_at(redis, channel).pubsub()  # Any: the driver's types name the replies of every protocol at once
    try:
        await pubsub.ssubscribe(channel)
        while (reply := await _next(pubsub)) is None or reply["type"] != "ssubscribe":
            pass
        yield pubsub
    finally:
        # Also of a caller that is cancelled: a channel that nobody closes would be heard for good.
        with anyio.move_on_after(timeout_s, shield=True):
            await pubsub.aclose()


async def _next(pubsub: Any) -> Any:  # noqa: ANN401 - see above
    return await pubsub.get_message(timeout=_POLL_S)
