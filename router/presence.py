"""Who is online, since when and where, read for people and back ends.

A user is online while an unexpired route leads to a node whose heartbeat has not lapsed, by Redis' clock. That is asked
anew each time, so it tells the truth before `offline` has been said. Who watches comings and goings reads `push:{s}:events`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis

import lua
from router.keys import Keys
from router.settings import Settings
from router.shards import shard_of_id

USERS_MAX: Final = 10_000
"""Most users that are asked after at once."""

_SLICE: Final = 500
"""Most users in one call: about a millisecond of Redis' time."""

_CURSOR: Final = re.compile(r"(\d{1,4})-(\d{1,20})")


@dataclass(frozen=True, slots=True)
class NodePresence:
    """A node that a user is on.

    Attributes:
        node: the node id.
        devices: the devices that the user has there; sessions without a device are not named.
    """

    node: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Presence:
    """Whether a user is there.

    Attributes:
        user: who.
        online: on any node.
        since_ms: since when, Unix ms by Redis' clock; None for who is not online, or has come online before anybody noted it.
        nodes: where, the freshest route last.
    """

    user: str
    online: bool
    since_ms: int | None
    nodes: tuple[NodePresence, ...]


@dataclass(frozen=True, slots=True)
class OnlinePage:
    """Some of those who have been said to be online.

    Attributes:
        users: user → since when, Unix ms. Who has left in the last seconds may be among them.
        next: the cursor of what comes behind; None at the end.
    """

    users: dict[str, int]
    next: str | None


async def presence_of(redis: Redis, settings: Settings, users: Sequence[str]) -> list[Presence]:
    """Return the presence of each user, in the order asked.

    Args:
        redis: where routes and heartbeats are.
        settings: prefix and shards.
        users: ids that were checked, `USERS_MAX` at most.

    Raises:
        ValueError: when there are more.
        RedisError, OSError: when Redis cannot be asked.
    """
    if len(users) > USERS_MAX:
        raise ValueError(f"{len(users)} users; {USERS_MAX} at most")
    by_shard: dict[int, list[str]] = defaultdict(list)
    for user in dict.fromkeys(users):
        by_shard[shard_of_id(user, settings.shards)].append(user)
    found: dict[str, Presence] = {}
    for shard, asked in by_shard.items():
        for begin in range(0, len(asked), _SLICE):
            found.update(await _read(redis, Keys(settings.prefix, shard), asked[begin : begin + _SLICE]))
    return [found[user] for user in users]


async def _read(redis: Redis, keys: Keys, users: Sequence[str]) -> dict[str, Presence]:
    script = redis.register_script(lua.source("presence_read"))
    flat: list[bytes] = await script(keys=[keys.nodes(), keys.online(), *map(keys.route, users)])
    return {
        user: _presence(user, since, lines)
        for user, since, lines in zip(users, map(bytes.decode, flat[::2]), map(bytes.decode, flat[1::2]), strict=True)
    }


def _presence(user: str, since: str, lines: str) -> Presence:
    nodes = tuple(_node(line) for line in lines.split("\n") if line)
    return Presence(user, bool(nodes), int(since) if since.isdecimal() else None, nodes)


def _node(line: str) -> NodePresence:
    node, _, devices = line.partition(" ")
    return NodePresence(node, tuple(filter(None, devices.split(","))))


async def online_users(redis: Redis, settings: Settings, cursor: str | None = None, limit: int = 1_000) -> OnlinePage:
    """Return a page of those who are online, over all shards.

    Who comes or goes while somebody pages may be in it or not, and may be in it twice. A page may be short, and even empty,
    without being the last one; and longer than `limit`, as Redis gives small hashes whole.

    Args:
        redis: where it is noted.
        settings: prefix and shards.
        cursor: the `next` of the page before; None for the first.
        limit: about how many users.

    Raises:
        ValueError: when the cursor is none.
        RedisError, OSError: when Redis cannot be asked.
    """
    shard, at = _place(cursor, settings.shards)
    # The driver's types name the replies of every protocol at once.
    asked: Any = redis.hscan(Keys(settings.prefix, shard).online(), at, count=limit)
    following, found = await asked
    users = {user.decode(): int(since) for user, since in found.items()}
    if following:
        return OnlinePage(users, f"{shard}-{following}")
    return OnlinePage(users, f"{shard + 1}-0" if shard + 1 < settings.shards else None)


def _place(cursor: str | None, shards: int) -> tuple[int, int]:
    """Return the shard and the place in it that a cursor stands for."""
    if cursor is None:
        return 0, 0
    found = _CURSOR.fullmatch(cursor)
    shard, at = (int(found[1]), int(found[2])) if found else (shards, 0)
    if shard >= shards or at >= 1 << 64:
        raise ValueError(f"{cursor!r} is no cursor")
    return shard, at
