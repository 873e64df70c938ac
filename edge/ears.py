"""What a node hears with: one subscriber, or in a Redis Cluster one a shard, each where its shard's primary is.

So a shard that is lost there costs the others nothing: its users alone are looked after when it is found again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import anyio
from redis.asyncio import Redis

from edge.deafness import CONDITION, Deafness
from edge.subscriber import Receive, Subscriber
from router.cluster_redis import client_at, groups_of
from router.keys import Keys, shard_of_key
from router.metrics import PROBE_AGE_SECONDS
from router.ops import Health
from router.primary_pool import primary_pool_of
from router.settings import Settings
from router.shards import shard_of_id
from router.targets import ALL


@dataclass(frozen=True, slots=True)
class Hearers:
    """Who is told what, as of `edge.subscriber`; besides, which shards it is about.

    Attributes:
        receive: gets payloads.
        on_subscribed: told of the shards whose channels are subscribed, after a loss maybe.
        on_heard: told of a channel that is heard later.
        on_begin: called before each try to subscribe the shard of `all`, over which revocations are told.
    """

    receive: Receive
    on_subscribed: Callable[[range], None]
    on_heard: Callable[[str], None]
    on_begin: Callable[[], None]


class Ears:
    """The subscribers of a node, and what makes sure that they hear.

    Args:
        redis: tells where the channels are, and publishes probes.
        settings: shards; and those of `Subscriber` and `Deafness`.
        node: the node id.
        health: gets the condition `probes`, in a Cluster one a shard.
        hearers: who is told.
    """

    def __init__(self, redis: Redis, settings: Settings, node: str, health: Health, hearers: Hearers) -> None:
        self.groups = groups_of(redis, settings.shards)
        self._all_shard = shard_of_id(ALL, settings.shards)
        self._subscribers: list[Subscriber] = []
        self._deafnesses: list[Deafness] = []
        for shards in self.groups:
            channels = [Keys(settings.prefix, shard).node_channel(node) for shard in shards]
            subscriber = self._subscriber(client_at(redis, channels[0]), settings, shards, channels, hearers)
            of = f" of shard {shards.start}" if len(self.groups) > 1 else ""
            self._subscribers.append(subscriber)
            self._deafnesses.append(Deafness(client_at(redis, channels[0]), settings, channels, subscriber, health, of))
        if len(self.groups) > 1:
            health.set(CONDITION, ok=True)  # the shards have conditions of their own by now
        PROBE_AGE_SECONDS.set_function(lambda: time.monotonic() - min(one.sure_at_s for one in self._deafnesses))

    def _subscriber(
        self, redis: Redis, settings: Settings, shards: range, channels: Sequence[str], hearers: Hearers
    ) -> Subscriber:
        begin = hearers.on_begin if self._all_shard in shards else _nothing
        to_all = Keys(settings.prefix, self._all_shard).all_channel()
        return Subscriber(
            *(settings, channels, hearers.receive, lambda: hearers.on_subscribed(shards), hearers.on_heard, begin),
            *(primary_pool_of(redis), (to_all,)),
        )

    @property
    def sure_at_s(self) -> float:
        """When it was last sure that what is sent to every node is heard (monotonic clock)."""
        return self._deafnesses[self._at(self._all_shard)].sure_at_s

    def concern_all(self, shards: range) -> bool:
        """Tell whether what is sent to every node comes with these shards."""
        return self._all_shard in shards

    def hear(self, channel: str) -> None:
        """Subscribe a channel, now and after every loss."""
        self._subscribers[self._at(shard_of_key(channel))].hear(channel)

    def drop(self, channel: str) -> None:
        """Hear a channel no more."""
        self._subscribers[self._at(shard_of_key(channel))].drop(channel)

    @property
    def refused(self) -> Collection[str]:
        """The channels that Redis does not allow our user."""
        return {channel for subscriber in self._subscribers for channel in subscriber.refused}

    async def subscribed(self, shard: int) -> None:
        """Return when all channels of a shard are subscribed, at once if they are."""
        await self._subscribers[self._at(shard)].subscribed()

    async def run(self) -> None:
        """Hear, and probe, until cancelled."""
        async with anyio.create_task_group() as tasks:
            for subscriber, deafness in zip(self._subscribers, self._deafnesses, strict=True):
                tasks.start_soon(subscriber.run)
                tasks.start_soon(deafness.run)

    def _at(self, shard: int) -> int:
        return shard if len(self.groups) > 1 else 0


def _nothing() -> None:
    """Nobody is to be told."""
