"""GET /v1/nodes: the edges, as their heartbeats describe them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from router.api.openapi import AWAY
from router.api.times import rfc3339_of_ms
from router.directory import Node, read_nodes
from router.http.operations import JSON, Answer, Id, Operation, Time
from router.settings import Settings


class NodeState(msgspec.Struct, frozen=True):
    """A node; null stands for what no heartbeat tells any more.

    Attributes:
        alive: its heartbeat is current in every shard.
        expires_at: when it counts as dead unless it is heard from, in the shard where that is soonest; null where a shard does
            not list it.
        address: where clients reach it.
        state: `live` or `draining`.
        sessions: how many it holds.
        age_s: since it started.
    """

    id: Id
    alive: bool
    expires_at: Time | None
    address: str | None
    version: str | None
    state: str | None
    sessions: int | None
    age_s: float | None


class NodesState(msgspec.Struct, frozen=True):
    """All nodes, by id."""

    nodes: tuple[NodeState, ...]


_EXAMPLE = NodesState(
    (NodeState("edge-1.k3f9x0", True, "2026-11-22T17:14:45.000Z", "ws://127.0.0.1:8002", "0.1.0", "live", 1204, 86_400.5),)
)

GET_NODES: Final = Operation(
    id="get_nodes",
    method="GET",
    path="/v1/nodes",
    scope="read",
    summary="The edges",
    description="Where each is, how many sessions it holds, and whether it lives. One that ended without a word is listed "
    "as not alive until its entry is cleared away.",
    answers=(Answer(HTTPStatus.OK, NodesState, "All nodes, by id.", example=_EXAMPLE),),
    problems=AWAY,
)


class Nodes:
    """Answers for nodes.

    Args:
        redis: where their heartbeats are.
        settings: prefix and shards.
    """

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings

    async def get(self, _request: Request) -> Response:
        """Tell of all nodes.

        Raises:
            RedisError: in an outage.
        """
        nodes = await read_nodes(self._redis, self._settings)
        return Response(msgspec.json.encode(NodesState(tuple(map(_state, nodes)))), media_type=JSON)


def _state(node: Node) -> NodeState:
    return NodeState(
        id=node.id,
        alive=node.alive,
        expires_at=rfc3339_of_ms(node.expiry_ms) if node.expiry_ms else None,
        address=node.address or None,
        version=node.version or None,
        state=node.state or None,
        sessions=node.sessions,
        age_s=node.age_s,
    )
