"""The node: its id, its heartbeat, its leave.

A node id is `<name>.<incarnation>`, new at every start, so that nothing which belonged to a dead process (routes, a
heartbeat, a subscription) can be taken for its successor's.
"""

from __future__ import annotations

import math
import secrets
import string
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, Literal

import anyio
import structlog
from redis.asyncio import Redis

import lua
import router
from router.keys import Keys
from router.outage import Outages, outages_of
from router.redis_client import OUTAGE
from router.settings import Settings

log = structlog.get_logger(__name__)

_BEATS_A_LIFE: Final = 3
"""How often the heartbeat comes in its life: one may be lost, and the next still comes in time."""

_UNLISTED: Final = -1
"""What a heartbeat returns of a node that is not listed."""

_INCARNATION_CHARS: Final = string.digits + string.ascii_lowercase
_INCARNATION_LENGTH: Final = 6
"""36⁶: two starts out of a thousand agree once in four thousand years of thousand starts a day."""


class _Group:
    """Shards whose Redis is lost and found together.

    Attributes:
        soon: set when the next heartbeat is to be sent now.
        tried: set, and replaced, when one has been tried; `tried_at_s` says when.
    """

    def __init__(self, shards: range, outages: Outages) -> None:
        self.shards = shards
        self.outages = outages
        self.soon = anyio.Event()
        self.tried = anyio.Event()
        self.tried_at_s = -math.inf

    def note_try(self) -> None:
        """Note that a heartbeat has been tried."""
        self.tried_at_s = time.monotonic()
        self.tried.set()
        self.tried = anyio.Event()


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
        groups: shards whose Redis is lost and found together; None for all of them.
        on_forgotten: told of a shard in which the node is not listed any more when it beats again: dispatch has said that it is
            gone, as it was frozen or cut off for so long, or Redis has forgotten it.

    Attributes:
        id: the node id.
    """

    def __init__(
        self,
        redis: Redis,
        settings: Settings,
        sessions: Callable[[], int],
        outages: Outages,
        on_forgotten: Callable[[int], None] = lambda _: None,
        groups: Sequence[range] | None = None,
    ) -> None:
        self.id = new_node_id(settings.node)
        self._keys = [Keys(settings.prefix, shard) for shard in range(settings.shards)]
        self._ttl_ms = settings.node_ttl_ms
        self._sessions = sessions
        self._groups = [_Group(shards, one) for shards, one in outages_of(groups or [range(settings.shards)], outages)]
        self._address = settings.edge_address or _address(settings)
        self._started_ms = time.time_ns() // 1_000_000
        self._state: Literal["live", "draining"] = "live"
        self._beat_script = redis.register_script(lua.source("node_beat"))
        self._leave_script = redis.register_script(lua.source("node_leave"))
        self._on_forgotten = on_forgotten
        self._listed: set[int] = set()

    def beat_soon(self, shards: AbstractSet[int] | None = None) -> None:
        """Send the next heartbeat now: the Redis of some shards, or of all, is back, and may have forgotten us."""
        for group in self._groups:
            if shards is None or not shards.isdisjoint(group.shards):
                group.soon.set()

    def drain(self) -> None:
        """Tell, from the next heartbeat on, that the node is draining."""
        self._state = "draining"
        self.beat_soon()

    async def run(self) -> None:
        """Send heartbeats until cancelled."""
        async with anyio.create_task_group() as tasks:
            for group in self._groups:
                tasks.start_soon(self._run, group)

    async def tried(self, shard: int = 0) -> None:
        """Return when a heartbeat has been tried within the life of one, which is at once but after a process stood still.

        Who writes a route of this shard waits for it, so that a node that has gone on counts as alive before online is said of
        its users.
        """
        group = next(group for group in self._groups if shard in group.shards)
        while time.monotonic() - group.tried_at_s >= self._ttl_ms / 1000:
            await group.tried.wait()

    async def _run(self, group: _Group) -> None:
        while True:
            group.soon = anyio.Event()
            try:
                await self._beat(group.shards)
            except OUTAGE as exc:
                group.note_try()
                await group.outages.wait("redis", exc)
                continue
            group.note_try()
            group.outages.over()
            with anyio.move_on_after(self._ttl_ms / _BEATS_A_LIFE / 1000):
                await group.soon.wait()

    async def leave(self) -> None:
        """Take the node out.

        Raises:
            RedisError, OSError: when Redis is away; the heartbeat lapses by itself.
        """
        problems = [problem for keys in self._keys if (problem := await self._leave(keys))]
        if problems:
            raise problems[0]

    async def _leave(self, keys: Keys) -> Exception | None:
        try:
            await self._leave_script(keys=[keys.nodes(), keys.info(self.id), keys.on(self.id)], args=[self.id])
        except OUTAGE as exc:
            return exc
        return None

    async def _beat(self, shards: range) -> None:
        fields: dict[str, str | int] = {
            "address": self._address,
            "version": router.__version__,
            "started": self._started_ms,
            "sessions": self._sessions(),
            "state": self._state,
        }
        args: list[str | int] = [self.id, self._ttl_ms, *(part for pair in fields.items() for part in pair)]
        for keys in self._keys[shards.start : shards.stop]:
            listed = await self._beat_script(keys=[keys.nodes(), keys.info(self.id)], args=args) != _UNLISTED
            if not listed and keys.shard in self._listed:
                log.info("node_forgotten", shard=keys.shard)
                self._on_forgotten(keys.shard)
            self._listed.add(keys.shard)


def _address(settings: Settings) -> str:
    scheme = "wss" if settings.edge_tls_cert_file else "ws"
    return f"{scheme}://{settings.edge_host}:{settings.edge_port}"
