"""Edges: which live, which hear what is published to them, and where routes lead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from redis.asyncio import Redis

from router.cluster_redis import every_primary
from router.directory import Node, read_nodes
from router.doctor.findings import Finding, counted, error, note, ok, warning
from router.keys import Keys
from router.settings import Settings

ROUTES_MAX: Final = 1_000
"""How many users' routes are looked at, all shards together."""

_KEYS_MAX: Final = 100_000
_KEYS_A_STEP: Final = 1_000


async def examine(redis: Redis, settings: Settings) -> list[Finding]:
    """Return what is to be thought of the edges.

    Raises:
        RedisError, OSError: when Redis cannot be asked.
    """
    nodes = await read_nodes(redis, settings)
    hearing = {node.id: await _hearing(redis, settings, node.id) for node in nodes}
    looked_at, astray = await _astray(redis, settings, {node.id for node in nodes if node.alive})
    return [*judge(nodes, hearing), *judge_routes(looked_at, astray)]


def judge(nodes: Sequence[Node], hearing: Mapping[str, int]) -> list[Finding]:
    """Return what is to be thought of nodes.

    Args:
        nodes: those that are registered.
        hearing: node → subscribers of its channel that are no taps, in the shard where they are fewest.
    """
    if not any(node.alive for node in nodes):
        return [*_judge_nodes(nodes, hearing), warning("no edge is registered: nobody is connected", "start pushway edge")]
    return [*_judge_nodes(nodes, hearing), *_judge_versions(nodes)]


def _judge_nodes(nodes: Sequence[Node], hearing: Mapping[str, int]) -> Iterator[Finding]:
    for node in nodes:
        if not node.alive:
            yield warning(
                f"{node.id} has not been heard from in time: it was killed, is frozen, or is cut off from Redis",
                "look whether its process runs; where it does not, its name and routes go by themselves",
            )
        elif hearing[node.id] < 1:
            yield error(
                f"{node.id} is deaf, or died a moment ago: its heartbeat is current, and nobody is subscribed to its channel",
                "its /readyz and its log say why; may its Redis user subscribe to push:{*}:node:* (ACL)?",
            )
        else:
            sessions = counted(node.sessions or 0, "session", "sessions")
            yield ok(f"{node.id}: {sessions}, {node.state or 'live'}, at {node.address or 'no address'}")
            if hearing[node.id] > 1:
                yield note(
                    f"{hearing[node.id] - 1} more subscribe to its channel: once {node.id} dies, dispatch takes them for it",
                    "`pushway tap` leaves in time, a redis-cli SSUBSCRIBE does not: end that one",
                )


def _judge_versions(nodes: Sequence[Node]) -> Iterator[Finding]:
    versions = sorted({node.version for node in nodes if node.alive and node.version})
    if len(versions) > 1:
        yield note(f"edges run different versions: {', '.join(versions)}")


def judge_routes(looked_at: int, astray: Mapping[str, int]) -> list[Finding]:
    """Return what is to be thought of routes.

    Args:
        looked_at: how many users' routes were.
        astray: node that does not live → routes among them that lead there and have not lapsed.
    """
    if not astray:
        users = counted(looked_at, "user", "users")
        return [ok(f"the routes of {users} lead to nodes that live")] if looked_at else []
    # What comes for these users is stored and reported as offline; it is only that nobody lives there.
    names = ", ".join(sorted(astray))
    lead = counted(sum(astray.values()), "leads to a node that does", "lead to nodes that do")
    told = f"of the routes of {counted(looked_at, 'user', 'users')}, {lead} not live: {names}"
    return [note(told, "each is dropped by the next message for its user, or ends by itself after route_ttl_ms")]


async def _hearing(redis: Any, settings: Settings, node: str) -> int:  # noqa: ANN401 - its types name the replies of every protocol
    fewest: list[int] = []
    for shard in range(settings.shards):
        keys = Keys(settings.prefix, shard)
        counts = await redis.pubsub_shardnumsub(keys.node_channel(node), keys.tap_channel(node))
        (_, subscribers), (_, taps) = counts
        fewest.append(subscribers - taps)
    return min(fewest)


async def _astray(redis: Any, settings: Settings, alive: set[str]) -> tuple[int, dict[str, int]]:  # noqa: ANN401 - likewise
    """Return how many users' routes were looked at, and where those lead that lead to no living node."""
    astray: dict[str, int] = {}
    looked_at = 0
    seconds, _ = await redis.time()
    async for key in _route_keys(redis, settings):
        looked_at += 1
        for node in await redis.zrangebyscore(key, seconds * 1000, "+inf"):
            name = node.decode(errors="backslashreplace")
            if name not in alive:
                astray[name] = astray.get(name, 0) + 1
    return looked_at, astray


async def _route_keys(redis: Any, settings: Settings) -> Any:  # noqa: ANN401 - likewise
    left, pattern = ROUTES_MAX, f"{settings.prefix}:{{*}}:route:*"
    for server in await every_primary(redis):
        cursor = 0
        for _ in range(_KEYS_MAX // _KEYS_A_STEP):
            cursor, keys = await server.scan(cursor, match=pattern, count=_KEYS_A_STEP, _type="ZSET")
            for key in keys[:left]:
                yield key
            left -= len(keys)
            if left <= 0:
                return
            if cursor == 0:
                break
