"""Who has left: dispatch says offline of those who are not back in time, and sees to the users of nodes that died.

What is decided stands in the scripts, each of which does a slice in one step with what it says, and writes only for the holder
of the lease. So an owner that dies between two slices has said each of its events once, and the next one goes on with the rest.

Theory of operation. `online` holds of whom online was said and offline was not. Whoever stands there has a live route, or is in
`leaving`, or in `on` of a node that has died; each of the three leads to the next, and the last step is `offline_say.lua`:

    live route ──the last session ends──▶ leaving ──due, not back──▶ offline
        └──the node dies──▶ on ──lapsed for the grace──▶ leaving, due at once

What Redis forgets in a failover, or somebody removes by hand, can break the chain. So `online` is gone through as well, some
users a turn, and who is in none of the three is put in `leaving`.

Who comes to a shard, or back to it after an outage, waits for the grace first: while Redis was away, nodes could not say that
they lived, nor write who had come back. So does who finds another history there than before: a Redis that was restarted between
two turns may remember heartbeats of long ago.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Final

import anyio
import structlog
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

import lua
from router.backlog import Work
from router.cluster_redis import client_at
from router.keys import Keys
from router.metrics import LEAVING, PRESENCE_EVENTS
from router.outage import Outages
from router.settings import Settings
from router.streams import NEW, TAKEN_BEFORE, fencing
from router.turns import take_turns

log = structlog.get_logger(__name__)

SLICE: Final = 200
"""Most users in one call: two or three milliseconds of Redis' time."""

_BREATH_S: Final = 0.005
"""How long Redis is left to others between two calls when many leave at once. A dead edge of 50,000 takes some 4 s."""

_CHECKED: Final = 500
"""About how many of `online` are gone through in a turn."""

_TURN_S: Final = 1.0
"""Longest time to the next look."""

_ROLE: Final = "dispatch"


@dataclass(frozen=True, slots=True)
class Said:
    """What became of those whose time had come.

    Attributes:
        looked_at: how many there were.
        offline: of how many of them offline was said.
    """

    looked_at: int
    offline: int


@dataclass(frozen=True, slots=True)
class Gone:
    """What became of a node that has died.

    Attributes:
        node: its id; "" where there is none.
        users: how many of its users are looked after now.
        over: whether those were the last of them.
    """

    node: str
    users: int
    over: bool


class Leaving:
    """The calls to Redis for those who leave one shard.

    Each raises Fenced when the lease is not the caller's, and RedisError or OSError when Redis is away: it is unknown then
    whether it was done.
    """

    def __init__(self, redis: Redis, keys: Keys, settings: Settings) -> None:
        self._redis = redis
        self._keys = keys
        self._grace_ms = settings.offline_grace_ms
        self._events_max = settings.events_max
        self._gone = redis.register_script(lua.source("node_gone"))
        self._say = redis.register_script(lua.source("offline_say"))
        self._check = redis.register_script(lua.source("online_check"))

    async def see_to_node(self, held: str, most: int = SLICE) -> Gone:
        """See to some users of a node that has died."""
        keys = self._keys
        names = [keys.lease(_ROLE), keys.nodes(), keys.leaving(), keys.events()]
        with fencing():
            node, users, over = await self._gone(keys=names, args=[held, self._grace_ms, most, self._events_max])
        return Gone(node.decode(errors="replace"), users, bool(over))

    async def say(self, held: str, most: int = SLICE) -> Said:
        """Say offline of those who are due and not back."""
        keys = self._keys
        names = [keys.lease(_ROLE), keys.nodes(), keys.online(), keys.leaving(), keys.events()]
        with fencing():
            return Said(*await self._say(keys=names, args=[held, most, self._events_max]))

    async def history(self) -> str:
        """Return the name of Redis' history, which a restart and a failover change; "" where that is not to be had."""
        # The driver's types name the replies of every protocol at once.
        redis: Any = client_at(self._redis, self._keys.nodes())
        try:
            return str((await redis.info("replication")).get("master_replid", ""))
        except NoPermissionError:
            return ""

    async def waiting(self) -> int:
        """Return how many wait until their time has come."""
        # The driver's types name the replies of every protocol at once.
        redis: Any = self._redis
        count: int = await redis.zcard(self._keys.leaving())
        return count

    async def check(self, held: str, cursor: int, most: int = _CHECKED) -> tuple[int, int]:
        """Look through some of `online`; return where to go on, 0 at the end, and how many were found who are not."""
        keys = self._keys
        names = [keys.lease(_ROLE), keys.nodes(), keys.online(), keys.leaving()]
        with fencing():
            following, found = await self._check(keys=names, args=[held, cursor, most, self._grace_ms])
        return int(following), found


class Leavers:
    """Dispatch's work on those who leave one shard, while the lease is held.

    Args:
        leaving: the calls.
        shard: its number.
        settings: `offline_grace_ms`.
        outages: its own, as it tells by its own calls that one is over.
    """

    def __init__(self, leaving: Leaving, shard: int, settings: Settings, outages: Outages) -> None:
        self._leaving = leaving
        self._outages = outages
        self._grace_s = settings.offline_grace_ms / 1000
        self._pause_s = min(_TURN_S, self._grace_s)
        self._listen_until_s = math.inf
        self._history = ""
        self._cursor = 0
        self._shard = shard

    def beside(self, work: Work) -> Work:
        """Return work that has those who leave looked after while it goes on."""

        async def both(held: str) -> None:
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self.run, held)
                    await work(held)
                    tasks.cancel_scope.cancel()
            finally:
                LEAVING.remove(self._shard)

        return both

    async def run(self, held: str) -> None:
        """Work until the lease turns out to be lost, then return."""

        async def turn(start: str) -> str:
            return await self._turn(held, start)

        await take_turns(turn, self._outages)

    async def _turn(self, held: str, start: str) -> str:
        before, self._history = self._history, await self._leaving.history()
        if start == TAKEN_BEFORE or self._history != before:
            self._listen_until_s = time.monotonic() + self._grace_s
        if time.monotonic() >= self._listen_until_s:
            await self._look(held)
        LEAVING.labels(self._shard).set(await self._leaving.waiting())
        await anyio.sleep(self._pause_s)
        return NEW

    async def _look(self, held: str) -> None:
        """Do all that is due. Nodes come first: that one is gone is told before its users are offline."""
        while (gone := await self._leaving.see_to_node(held)).node:
            if gone.over:
                PRESENCE_EVENTS.labels("gone").inc()
                log.warning("node_died", node=gone.node, shard=self._shard)
            await anyio.sleep(_BREATH_S)
        while (said := await self._leaving.say(held)).looked_at:
            PRESENCE_EVENTS.labels("offline").inc(said.offline)
            await anyio.sleep(_BREATH_S)
        self._cursor, found = await self._leaving.check(held, self._cursor)
        if found:
            log.warning("online_mended", users=found, shard=self._shard)
