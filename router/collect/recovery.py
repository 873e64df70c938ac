"""Recovery: after Redis has restarted or failed over, what the shard stored lately is appended to `out` anew.

Such a Redis may have forgotten its newest writes: lines that nobody has handed on yet, and heads. Every accepted message is in
MongoDB, so all that was stored within `recover_window` goes out once more, by seq; sessions that have it drop it as they drop
any duplicate. Heads from before count for nothing from then on (`era` in Redis): where one is missing MongoDB's newest counts,
and no message is placed before the recovery is through.

How a change is seen. A worker cannot see Redis change: its connection may break and come back between two calls without a
word. So the scripts look themselves which Redis they are on (`master_replid` of INFO: a restart and a failover each bring
another one), and in which era. What they compare it with stands in Redis; and in MongoDB (`router.collect.eras`), for a primary
that comes back after another has served in its place has forgotten that it was away.

A recovered line names `seq - 1` as its prev. That is never above the truth, so a session that lacks anything before it reads
the inbox; it is never below it either, so nothing is passed over. The documents' own `prev` would not do: it may name a seq
that was drawn and never used, or stand before one that was stored under an older seq.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import structlog

from router import metrics
from router.collect.eras import Era, Eras
from router.collect.intake import Intake
from router.collect.joined import Lines
from router.inbox import Inbox
from router.settings import Settings
from router.stored import Recent

log = structlog.get_logger(__name__)


class Recovery:
    """Recovers one shard.

    Args:
        shard: its number.
        intake: the shard's side of Redis.
        inbox: MongoDB's side.
        eras: what MongoDB knows of eras.
        settings: `recover_window_s`, and the limits of a batch.
        mind_high_water: is told the length of `out` after each batch, and waits where it is too long.
    """

    def __init__(
        self,
        shard: int,
        intake: Intake,
        inbox: Inbox,
        eras: Eras,
        settings: Settings,
        mind_high_water: Callable[[int], Awaitable[None]],
    ) -> None:
        self._shard = shard
        self._intake = intake
        self._inbox = inbox
        self._eras = eras
        self._settings = settings
        self._mind_high_water = mind_high_water

    async def run(self, held: str) -> Era:
        """Return the present era, after recovering the shard in it where that has not been done.

        Cut off anywhere, it is done again from the start: the era is noted in MongoDB before anything is placed in it.

        Raises:
            Fenced: when the lease is not ours.
            RedisError, PyMongoError: in an outage.
        """
        while True:
            last = await self._eras.last(self._shard)
            era, due = await self._intake.begin_era(held, last)
            if era != last and not await self._eras.note(self._shard, era):
                continue
            if not due:
                return era
            await self._recover(held, era)
            if await self._intake.confirm_era(held, era):
                return era

    async def _recover(self, held: str, era: Era) -> None:
        since = datetime.now(UTC) - timedelta(seconds=self._settings.recover_window_s)
        log.info("recovery_began", shard=self._shard, era=era.number, server=era.server, since=since.isoformat())
        count = 0
        most, most_bytes = self._settings.batch_max, self._settings.publish_max_bytes
        async with aclosing(self._inbox.recent(self._shard, since, most, most_bytes)) as parts:
            async for messages in parts:
                await self._append(held, messages)
                count += len(messages)
        log.info("recovery_ended", shard=self._shard, era=era.number, messages=count)

    async def _append(self, held: str, messages: list[Recent]) -> None:
        heads: dict[str, int] = {}
        for message in messages:
            heads[message.target] = max(message.seq, heads.get(message.target, 0))
        lines = Lines(self._settings.publish_max_bytes)
        for one in messages:
            what = one.body or one.frame
            lines.add(one.target, (one.seq - 1, one.seq), one.expires_ms, what, trace=one.trace, exclude=one.exclude)
        length = await self._intake.append(held, lines=lines.build(), heads=heads, entry_ids=[], item_ids=[], trim=False)
        metrics.RECOVERED.inc(len(messages))
        await self._mind_high_water(length)
