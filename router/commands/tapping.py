"""Listening to a node's channels beside its edge, and leaving before that does any harm.

Dispatch counts how many subscribers a publish reaches: with nobody there it reports the message as offline, and where the
heartbeat has lapsed as well it drops the route. A tap is a subscriber like any other, so on the channel of a dead edge it would
stand for that edge. Therefore it listens only where the edge does: before it subscribes, and again every `LOOK_EVERY_S`, it
asks whether the heartbeat is current in every shard, and whether somebody who is no tap is subscribed to every channel. Taps
are told apart by a second channel that each subscribes in the same breath (`Keys.tap_channel`), so two do not keep each other.

What remains: for at most `LOOK_EVERY_S` and one answer of Redis after an edge has gone, what is published to it is not reported
as `nobody_listening`; routes are dropped all the same, by the first publish after that. A tap that is frozen cannot look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import anyio
from redis.asyncio import Redis

from edge.redis_address import read_address
from edge.subscriber import LOST, Subscription, connect
from router.cluster_redis import client_at, groups_of
from router.directory import Node
from router.errors import PushwayError
from router.keys import Keys
from router.lines import MANY, split_many
from router.primary_pool import primary_pool_of
from router.redis_url import read_url
from router.settings import Settings
from router.tls.trust import redis_trust

LOOK_EVERY_S: Final = 0.25
"""How often is asked whether the edge is there still: two commands a shard of Redis, each O(1)."""

PROBE: Final = "probe"
"""In the place of a line's target, where the edge makes sure that it hears itself."""

_FIELDS_BEFORE_FRAME: Final = 4

Receive = Callable[[list[bytes]], None]


class NotTapped(PushwayError):
    """A node cannot be listened to, now or any longer; the text says why."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a shard says of a node.

    Attributes:
        left_ms: until its heartbeat lapses; not above 0 when it has.
        subscribers: of its channel, taps included.
        taps: of the node.
    """

    left_ms: int
    subscribers: int
    taps: int


@dataclass(frozen=True, slots=True)
class Line:
    """A line on a node's channel; see `router.lines`. What is not one has an empty frame."""

    target: str
    prev: str
    seq: str
    opts: str
    frame: bytes


def read_line(line: bytes) -> Line:
    """Return what a line says, whatever it is."""
    parts = line.split(b" ", _FIELDS_BEFORE_FRAME)
    *head, frame = parts if len(parts) > _FIELDS_BEFORE_FRAME else (line, b"", b"", b"", b"")
    target, prev, seq, opts = (part.decode(errors="backslashreplace") for part in head)
    return Line(target, prev, seq, opts, frame)


def read_lines(line: bytes) -> Iterator[Line]:
    """Return what a line says; of a line of many, what each of the lines says that it stands for."""
    told = read_line(line)
    if told.target != MANY:
        return iter((told,))
    try:
        return map(read_line, split_many(told.opts.encode(), told.frame))
    except ValueError:
        return iter((told,))


def choose(nodes: Sequence[Node], wanted: str | None) -> str:
    """Return the id of the node that is meant: by its id or its name; the only one that lives, where none is named.

    Raises:
        NotTapped: when that is none, or not one only; the text lists the nodes.
    """
    alive = [node.id for node in nodes if node.alive]
    if wanted is None:
        if len(alive) != 1:
            raise NotTapped(f"say which node: {_listed(nodes)}")
        return alive[0]
    found = [node for node in nodes if wanted in {node.id, node.id.rpartition(".")[0]}]
    living = [node.id for node in found if node.alive]
    if len(living) != 1:
        what = (
            f"{len(living)} nodes are called {wanted}"
            if living
            else f"{wanted} is dead"
            if found
            else f"there is no node {wanted}"
        )
        raise NotTapped(f"{what}: {_listed(nodes)}")
    return living[0]


def _listed(nodes: Sequence[Node]) -> str:
    if not nodes:
        return "no node has registered; is an edge running?"
    return "the nodes are " + ", ".join(node.id if node.alive else f"{node.id} (dead)" for node in nodes)


def why_not(node: str, looks: Sequence[Look]) -> str | None:
    """Return why a tap must not listen to a node; None when it may."""
    if min(look.left_ms for look in looks) <= 0:
        return f"the heartbeat of {node} has lapsed: a tap would make dispatch believe that somebody listens there"
    if any(look.subscribers <= look.taps for look in looks):
        return f"{node} itself is not subscribed to its channel: a tap would make dispatch believe that it is"
    return None


async def look_at(redis: Redis, settings: Settings, node: str) -> list[Look]:
    """Return what each shard says of a node.

    Raises:
        RedisError, OSError: when Redis cannot be asked.
    """
    return [await _look(redis, Keys(settings.prefix, shard), node) for shard in range(settings.shards)]


async def _look(redis: Redis, keys: Keys, node: str) -> Look:
    async with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.zscore(keys.nodes(), node)
        pipe.execute_command("PUBSUB SHARDNUMSUB", keys.node_channel(node), keys.tap_channel(node))
        (seconds, microseconds), expiry_ms, counts = await pipe.execute()
    left_ms = int(expiry_ms or 0) - (seconds * 1000 + microseconds // 1000)
    subscribers, taps = (count for _, count in counts)
    return Look(left_ms, subscribers, taps)


async def listen(redis: Redis, settings: Settings, node: str, receive: Receive, ready: Callable[[], None]) -> None:
    """Hand on every payload that is published to a node, until cancelled.

    Args:
        redis: is asked how the node is; another connection than the one that listens.
        settings: the server and its shards.
        node: its id.
        receive: gets payloads, each of one line or more; must not await.
        ready: is called when the channels are subscribed.

    Raises:
        NotTapped: when the node does not listen itself, now or later, or Redis took the subscription away.
        RedisError, OSError: when Redis is away.
    """
    await _refuse(redis, settings, node)
    subscriptions: list[Subscription] = []
    try:
        with anyio.fail_after(settings.redis_timeout_s):
            for shards in groups_of(redis, settings.shards):
                one = await _subscribe(redis, settings, node, shards, receive)
                subscriptions.append(one)
        if not any(one.ended.is_set() for one in subscriptions):
            ready()
        await _watch(redis, settings, node, subscriptions)
    finally:
        for one in subscriptions:
            one.end(LOST, one.error)


async def _subscribe(redis: Redis, settings: Settings, node: str, shards: range, receive: Receive) -> Subscription:
    """Return a subscription to the channels of some shards of a node, once it stands or has ended.

    Raises:
        RedisError, OSError: when their server cannot be reached.
    """
    keys = [Keys(settings.prefix, shard) for shard in shards]
    channels = [channel for own in keys for channel in (own.tap_channel(node), own.node_channel(node))]
    address = read_address(read_url(settings.redis_url).driver_url, "pushway-tap", redis_trust(settings))
    subscription = Subscription(address.greeting, channels, receive)
    primary = primary_pool_of(client_at(redis, channels[0]))
    await connect(subscription, address if primary is None else address.at(await primary.address()))
    await subscription.settled.wait()
    return subscription


async def _watch(redis: Redis, settings: Settings, node: str, subscriptions: Sequence[Subscription]) -> None:
    async with anyio.create_task_group() as tasks:
        ended = anyio.Event()
        for one in subscriptions:
            tasks.start_soon(_tell_end, one, ended)
        while not ended.is_set():
            await _refuse(redis, settings, node)
            with anyio.move_on_after(LOOK_EVERY_S):
                await ended.wait()
        tasks.cancel_scope.cancel()
    error = next(one.error for one in subscriptions if one.ended.is_set())
    raise NotTapped(f"the subscription ended: {error}")


async def _tell_end(subscription: Subscription, ended: anyio.Event) -> None:
    await subscription.ended.wait()
    ended.set()


async def _refuse(redis: Redis, settings: Settings, node: str) -> None:
    why = why_not(node, await look_at(redis, settings, node))
    if why:
        raise NotTapped(why)
