"""The one writer of this node's routes.

Registrations, removals and renewals go through one loop, in a Cluster one a shard, in batches of up to `BATCH_MAX` users a
script call. Batching is natural: whatever was asked while one call was on its way makes up the next, with those who come in the
same rush (`edge.company`); a single user never waits.

A user whose keys in Redis are broken has no route written, which the log says once; the others' are. A session that waits
for such a route ends by its own deadline; those that are there are compared with MongoDB's newest at each renewal.

Each write sends what the table of sessions says at that moment, so it does not matter how often or in what order a user
came and went, and a call whose answer was lost is simply made again. Only what the answer said of a lapse is lost then, so
that the heads are compared.

When Redis was lost: nothing is written until the node's channels are subscribed again (a route without a subscription
would draw messages that nobody hears), then every user is written anew, and then all goes on as before. The same is done when
another era of heads turns out to have begun: Redis changed without a word, or told heads that did not count any more.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import anyio
import structlog
from redis.asyncio import Redis

import lua
from edge.company import gathered
from edge.ledger import Ledger, Waiter, Write
from router.keys import Keys
from router.metrics import LAPSED
from router.outage import Outages, outages_of
from router.redis_client import OUTAGE
from router.settings import Settings
from router.shards import shard_of_id
from router.targets import USER_PREFIX

log = structlog.get_logger(__name__)

BATCH_MAX: Final = 256
"""Most users in one call: about a millisecond of Redis' time."""

_RENEWALS_A_LIFE: Final = 3
"""How often a route is renewed in its life: one renewal may fail and the next still comes in time."""

_TROUBLE: Final = -1
"""In the place of `was_live`: what follows is no head, but what is wrong."""

Resync = Callable[[str, int | None], None]
"""Is told of a user whose sessions may have missed something, and the head; None where Redis cannot tell it."""


@dataclass(frozen=True, slots=True)
class Written:
    """What Redis says of one user's route.

    Attributes:
        was_live: it stood there before, unexpired.
        head: None where Redis has no counter, or none that counts.
        trouble: what is wrong with the user's keys, or "" when all is well. Otherwise nothing counts as live or known.
    """

    was_live: bool
    head: int | None
    trouble: str


class _Group:
    """Shards whose Redis is lost and found together, so that one loop writes for them.

    Attributes:
        asked: set when there is something to write.
        settled: set when there is nothing.
    """

    def __init__(self, shards: range, outages: Outages) -> None:
        self.shards = shards
        self.outages = outages
        self.asked = anyio.Event()
        self.settled = anyio.Event()


class Routes:
    """Keeps Redis' routes to this node as `users` says.

    Args:
        redis: where the routes stand.
        settings: shards, `route_ttl_ms`.
        node: the node id.
        users: who has a session here; the live table, read at each write.
        devices: returns the devices with which a user is here.
        subscribed: returns when the node's channel of a shard is subscribed, and it has a heartbeat there.
        resync: told of each user whose route had lapsed or is written anew after a loss.
        outages: waits between failed tries.
        groups: shards whose Redis is lost and found together; None for all of them.
    """

    def __init__(
        self,
        redis: Redis,
        settings: Settings,
        node: str,
        users: Collection[str],
        devices: Callable[[str], Sequence[str]],
        subscribed: Callable[[int], Awaitable[None]],
        resync: Resync,
        outages: Outages,
        groups: Sequence[range] | None = None,
    ) -> None:
        self._keys = [Keys(settings.prefix, shard) for shard in range(settings.shards)]
        renew_s = settings.route_ttl_ms / _RENEWALS_A_LIFE / 1000
        self._ledgers = [Ledger(renew_s) for _ in self._keys]
        self._rules = (settings.route_ttl_ms, settings.offline_grace_ms, settings.events_max)
        self._node = node
        self._users = users
        self._devices = devices
        self._subscribed = subscribed
        self._resync = resync
        self._groups = [_Group(shards, one) for shards, one in outages_of(groups or [range(settings.shards)], outages)]
        self._script = redis.register_script(lua.source("route_set"))
        self._troubled: set[str] = set()
        # The last era of each shard that a write has told of.
        self._eras = [b""] * len(self._keys)

    def write(self, user: str, waiter: Waiter | None = None, come: str = "") -> None:
        """Have a user's route written soon, after the table has changed.

        Args:
            user: whose.
            waiter: told the head, which is read after this call; never called when the edge ends before that, or when it is
                withdrawn.
            come: what the user's other nodes are told with that write, unless the waiter is withdrawn: see `edge.replaced`.
        """
        shard = self._shard_of(user)
        self._ledgers[shard].ask(user, waiter, come)
        self._group_of(shard).asked.set()

    def withdraw(self, user: str, waiter: Waiter) -> None:
        """Forget a waiter that has gone. While Redis is away they come and go by the thousand."""
        self._ledgers[self._shard_of(user)].withdraw(user, waiter)

    def write_anew(self, shards: Collection[int]) -> None:
        """Have the routes of some shards' users written anew, and the heads compared: something may have been missed."""
        self._doubt(shards)
        for shard in shards:
            self._group_of(shard).asked.set()

    async def settled(self) -> None:
        """Return when everything that was asked before is written."""
        for group in self._groups:
            group.settled = anyio.Event()
            group.asked.set()
        for group in self._groups:
            await group.settled.wait()

    async def run(self) -> None:
        """Write until cancelled. What was on its way then may or may not be written."""
        async with anyio.create_task_group() as tasks:
            for group in self._groups:
                tasks.start_soon(self._run, group)

    async def _run(self, group: _Group) -> None:
        ledgers = self._ledgers[group.shards.start : group.shards.stop]
        while True:
            await self._subscribed(group.shards.start)
            group.asked = anyio.Event()
            await gathered(lambda: sum(ledger.asked for ledger in ledgers), BATCH_MAX)
            try:
                worked = [await self._write_shard(shard) for shard in group.shards]
            except OUTAGE as exc:
                await group.outages.wait("redis", exc)
                continue
            if any(worked):
                group.outages.over()
            if not any(worked) and not any(ledger.asked for ledger in ledgers):
                group.settled.set()
                await _idle(group, min(ledger.next_renewal_s for ledger in ledgers))

    async def _write_shard(self, shard: int) -> bool:
        """Carry out one batch of a shard; tell whether there was anything to do.

        Raises:
            RedisError, OSError: when it may not have been written; it is in the ledger again.
        """
        ledger = self._ledgers[shard]
        writes = ledger.take(time.monotonic(), BATCH_MAX)
        if not writes:
            return False
        held = [write.user in self._users for write in writes]
        try:
            at_us, era, replies = await self._call(self._keys[shard], writes, held)
        except OUTAGE:
            ledger.give_back(writes)
            raise
        self._note_era(shard, era)
        for write, is_held, written in zip(writes, held, replies, strict=True):
            known = ledger.done(write.user, time.monotonic(), held=is_held)
            self._note_trouble(write.user, written.trouble)
            self._tell(write, written, at_us, renewed=known and is_held)
        return True

    async def _call(self, keys: Keys, writes: Sequence[Write], held: Sequence[bool]) -> tuple[int, bytes, list[Written]]:
        """Return the time of the call by Redis, µs, the era, and what Redis says of each user."""
        routes = [keys.route(write.user) for write in writes]
        seqs = [keys.seq(USER_PREFIX + write.user) for write in writes]
        come = ["\n".join(filter(None, write.waiters.values())) for write in writes]
        devices = [",".join(self._devices(write.user)) for write in writes]
        args: list[str | int] = [self._node, *self._rules, *map(int, held), *come, *devices]
        presence = [keys.nodes(), keys.online(), keys.on(self._node), keys.leaving(), keys.events()]
        at_us, era, *flat = await self._script(keys=[keys.era(), *presence, *routes, *seqs], args=args)
        return at_us, era, [_written(was_live, head) for was_live, head in zip(flat[::2], flat[1::2], strict=True)]

    def _note_era(self, shard: int, era: bytes) -> None:
        """Have heads compared again when an era has ended: those that were told in it may have been short of what is stored."""
        if not era or era == self._eras[shard]:
            return
        if self._eras[shard]:
            log.info("era_changed", shard=shard, era=era.decode(errors="replace"))
            self._doubt({shard})
        self._eras[shard] = era

    def _doubt(self, shards: Collection[int]) -> None:
        """Have the routes of some shards' users written anew, and the heads compared."""
        for user in self._users:
            shard = shard_of_id(user, len(self._ledgers))
            if shard in shards:
                self._ledgers[shard].ask(user, doubtful=True)

    def _note_trouble(self, user: str, trouble: str) -> None:
        if trouble and user not in self._troubled:
            self._troubled.add(user)
            log.error("route_refused", user=user, error=trouble)
        elif not trouble and user in self._troubled:
            self._troubled.remove(user)
            log.info("route_mended", user=user)

    def _tell(self, write: Write, written: Written, at_us: int, *, renewed: bool) -> None:
        if renewed and not written.was_live and not written.trouble:
            LAPSED.inc()
        if renewed and (write.doubtful or not written.was_live):
            self._resync(write.user, written.head)
        if written.trouble:
            return
        for waiter in list(write.waiters):
            waiter(written.head, at_us)

    def _shard_of(self, user: str) -> int:
        return shard_of_id(user, len(self._ledgers))

    def _group_of(self, shard: int) -> _Group:
        return self._groups[shard if len(self._groups) > 1 else 0]


async def _idle(group: _Group, until_s: float) -> None:
    """Wait until something is asked of a group, or a renewal is due."""
    with anyio.move_on_after(max(0.0, until_s - time.monotonic()) if until_s < math.inf else None):
        await group.asked.wait()


def _written(was_live: int, head: bytes) -> Written:
    if was_live == _TROUBLE:
        return Written(was_live=False, head=None, trouble=head.decode(errors="replace"))
    return Written(bool(was_live), int(head) if head else None, "")
