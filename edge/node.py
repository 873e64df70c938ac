"""The node: its id, its heartbeat, its leave.

A node id is `<name>.<incarnation>`, new at every start, so that nothing which belonged to a dead process (routes, a
heartbeat, a subscription) can be taken for its successor's.
"""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Callable
from typing import Final, Literal

import anyio
from redis.asyncio import Redis

import lua
import router
from router.keys import Keys
from router.outage import Outages
from router.redis_client import OUTAGE
from router.settings import Settings

_BEATS_A_LIFE: Final = 3
"""How often the heartbeat comes in its life: one may be lost, and the next still comes in time."""

_INCARNATION_CHARS: Final = string.digits + string.ascii_lowercase
_INCARNATION_LENGTH: Final = 6
"""36⁶: two starts out of a thousand agree once in four thousand years of thousand starts a day."""


def new_node_id(name: str) -> str:
    """Return a node id that no other process has or had."""
    return f"{name}.{''.join(secrets.choice(_INCARNATION_CHARS) for _ in range(_INCARNATION_LENGTH))}"


class Node:
    """This process as the others see it.

    Args:
        redis: where it stands.
        settings: name, address, shards, `node_ttl_ms`.
        sessions: returns how many sessions it holds.
        outages: waits between failed tries.

    Attributes:
        id: the node id.
    """

    def __init__(self, redis: Redis, settings: Settings, sessions: Callable[[], int], outages: Outages) -> None:
        self.id = new_node_id(settings.node)
        self._keys = [Keys(settings.prefix, shard) for shard in range(settings.shards)]
        self._ttl_ms = settings.node_ttl_ms
        self._sessions = sessions
        self._outages = outages
        self._address = settings.edge_address or f"ws://{settings.edge_host}:{settings.edge_port}"
        self._started_ms = time.time_ns() // 1_000_000
        self._state: Literal["live", "draining"] = "live"
        self._beat_script = redis.register_script(lua.source("node_beat"))
        self._leave_script = redis.register_script(lua.source("node_leave"))
        self._soon = anyio.Event()

    def beat_soon(self) -> None:
        """Send the next heartbeat now: Redis is back, and may have forgotten us."""
        self._soon.set()

    def drain(self) -> None:
        """Tell, from the next heartbeat on, that the node is draining."""
        self._state = "draining"
        self._soon.set()

    async def run(self) -> None:
        """Send heartbeats until cancelled."""
        while True:
            self._soon = anyio.Event()
            try:
                await self._beat()
            except OUTAGE as exc:
                await self._outages.wait("redis", exc)
                continue
            self._outages.over()
            with anyio.move_on_after(self._ttl_ms / _BEATS_A_LIFE / 1000):
                await self._soon.wait()

    async def leave(self) -> None:
        """Take the node out.

        Raises:
            RedisError, OSError: when Redis is away; the heartbeat lapses by itself.
        """
        for keys in self._keys:
            await self._leave_script(keys=[keys.nodes(), keys.info(self.id), keys.on(self.id)], args=[self.id])

    async def _beat(self) -> None:
        fields: dict[str, str | int] = {
            "address": self._address,
            "version": router.__version__,
            "started": self._started_ms,
            "sessions": self._sessions(),
            "state": self._state,
        }
        args: list[str | int] = [self.id, self._ttl_ms, *(part for pair in fields.items() for part in pair)]
        for keys in self._keys:
            await self._beat_script(keys=[keys.nodes(), keys.info(self.id)], args=args)
