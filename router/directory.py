"""Who is where: routes and nodes, read for people.

Expiries are compared with Redis' clock, as dispatch does. What has lapsed may still stand there until somebody writes next;
it is returned, and says that it is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from router.keys import Keys
from router.settings import Settings
from router.shards import shard_of_id


@dataclass(frozen=True, slots=True)
class Route:
    """A node that holds a user.

    Attributes:
        node: the node id.
        expiry_ms: when the route expires, unless renewed; Unix ms by Redis' clock.
        left_ms: until then; not above 0 when it has lapsed.
        node_alive: whether the node's heartbeat is current.
    """

    node: str
    expiry_ms: int
    left_ms: int
    node_alive: bool

    @property
    def live(self) -> bool:
        """Whether messages go there, to somebody who is there."""
        return self.left_ms > 0 and self.node_alive


@dataclass(frozen=True, slots=True)
class Node:
    """An edge process, as its heartbeats describe it. The description expires with them: then it is empty, or None.

    Attributes:
        id: the node id.
        alive: whether its heartbeat is current in every shard.
        expiry_ms: when it counts as dead, unless it is heard from, in the shard where that is soonest; Unix ms by Redis' clock,
            0 where a shard does not list it.
        left_ms: until then; not above 0 when it is past.
        address: where clients reach it.
        version: of its program.
        state: `live` or `draining`.
        sessions: how many it holds.
        age_s: since it started.
    """

    id: str
    alive: bool
    expiry_ms: int
    left_ms: int
    address: str
    version: str
    state: str
    sessions: int | None
    age_s: float | None


async def read_routes(redis: Redis, settings: Settings, user: str) -> list[Route]:
    """Return the routes of a user, the freshest first.

    Raises:
        RedisError, OSError: when Redis cannot be asked.
    """
    keys = Keys(settings.prefix, shard_of_id(user, settings.shards))
    async with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.zrange(keys.route(user), 0, -1, desc=True, withscores=True)
        pipe.zrange(keys.nodes(), 0, -1, withscores=True)
        time, routes, nodes = await pipe.execute()
    now_ms = _ms(time)
    alive = {node for node, expiry_ms in nodes if expiry_ms > now_ms}
    return [Route(node.decode(), int(expiry_ms), int(expiry_ms) - now_ms, node in alive) for node, expiry_ms in routes]


async def read_nodes(redis: Redis, settings: Settings) -> list[Node]:
    """Return all nodes, by id.

    Raises:
        RedisError, OSError: when Redis cannot be asked.
    """
    shards = [Keys(settings.prefix, shard) for shard in range(settings.shards)]
    listed = [await _expiries_ms(redis, keys) for keys in shards]
    expiry_ms = {
        node: min(expiries.get(node, 0) for expiries in listed)  # a shard that does not list it counts it as dead
        for node in sorted({node for expiries in listed for node in expiries})
    }
    return [await _node(redis, shards[0], node, expiry) for node, expiry in expiry_ms.items()]


async def _expiries_ms(redis: Redis, keys: Keys) -> dict[str, int]:
    """Return node → expiry, for the nodes that a shard lists."""
    nodes: Any = await redis.zrange(keys.nodes(), 0, -1, withscores=True)
    return {node.decode(): int(expiry_ms) for node, expiry_ms in nodes}


async def _node(redis: Redis, keys: Keys, node: str, expiry_ms: int) -> Node:
    # Every shard has the same description of it.
    async with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.hgetall(keys.info(node))
        time, fields = await pipe.execute()
    info = {name.decode(): value.decode() for name, value in fields.items()}
    return Node(
        id=node,
        alive=expiry_ms > _ms(time),
        expiry_ms=expiry_ms,
        left_ms=expiry_ms - _ms(time) if expiry_ms else 0,
        address=info.get("address", ""),
        version=info.get("version", ""),
        state=info.get("state", ""),
        sessions=int(info["sessions"]) if "sessions" in info else None,
        age_s=(_ms(time) - int(info["started"])) / 1000 if "started" in info else None,
    )


def _ms(time: tuple[int, int]) -> int:
    """Return the reply of TIME in ms."""
    seconds, microseconds = time
    return seconds * 1000 + microseconds // 1000
