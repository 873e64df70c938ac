"""What of a shard waits for its time: the owner's side of `later`.

The owner is the only one that adds to it, so when the next message is due need not be asked again and again: it is looked up
when the shard is taken over, after a failure, and when what was due has been sent. In between it only comes nearer, by what the
owner adds itself. What is called back makes it too early by that, and costs one look in vain.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from router.later import DOCUMENTS_A_BATCH, Due, Later
from router.settings import Settings
from router.waiting import Waiting

_NEVER_MS: Final = 2**63


class Schedule:
    """What of one shard waits.

    Args:
        shard: its number.
        later: MongoDB's side.
        settings: the limits of a batch.
    """

    def __init__(self, shard: int, later: Later, settings: Settings) -> None:
        self._shard = shard
        self._later = later
        self._settings = settings
        self._next_ms: int | None = None
        self._due: deque[Due] = deque()

    def forget(self) -> None:
        """Know nothing, as after a failure: what was in hand is found first then."""
        self._next_ms = None
        self._due.clear()

    async def keep(self, waiting: Sequence[Waiting]) -> None:
        """Store what is to wait, durably.

        Raises:
            PyMongoError: when it is unknown what has been stored; keep the same again.
        """
        await self._later.keep(waiting)
        if self._next_ms is not None:
            self._next_ms = min(self._next_ms, *(one.at_ms for one in waiting))

    def wait_ms(self, now_ms: int) -> int | None:
        """Return how long nothing is due: 0 when something is, or nobody has looked yet; None as long as nothing waits."""
        if self._next_ms == _NEVER_MS:
            return None
        return max(0, (self._next_ms or 0) - now_ms)

    async def take(self, now_ms: int) -> list[Waiting]:
        """Take a batch of what is due in hand, and return what is in hand, by time; `sent` is to follow.

        What was in hand before a failure makes a batch of its own. None does not mean that nothing is due: see `wait_ms`.

        Raises:
            PyMongoError: in an outage; `forget`, and take again.
        """
        if self._next_ms is None:
            await self._look_ahead(now_ms)
        if self.wait_ms(now_ms) != 0:
            return []
        if not self._due:
            self._due.extend(await self._later.due(self._shard, now_ms))
        if waiting := await self._later.take_in_hand(self._shard, self._batch()):
            return waiting
        await self._look_ahead(now_ms)
        return []

    async def sent(self, waiting: Sequence[Waiting], now_ms: int) -> None:
        """Remove what has been sent, and find out when the next is due.

        Raises:
            PyMongoError: in an outage; `forget`, and it is sent again, under the seqs that it has.
        """
        await self._later.sent([one.key for one in waiting])
        await self._look_ahead(now_ms)

    async def _look_ahead(self, now_ms: int) -> None:
        if not self._due:
            next_ms = await self._later.next_due_ms(self._shard, now_ms)
            self._next_ms = _NEVER_MS if next_ms is None else next_ms

    def _batch(self) -> list[str]:
        """Return the first keys of what is due, to make a batch; what is in hand is a batch of its own."""
        keys: list[str] = []
        targets = size = 0
        in_hand = bool(self._due) and self._due[0].in_hand
        while self._due and self._due[0].in_hand == in_hand and len(keys) < DOCUMENTS_A_BATCH:
            one = self._due.popleft()
            keys.append(one.key)
            targets += one.targets
            size += one.size
            if targets >= self._settings.batch_max or size >= self._settings.read_max_bytes:
                break
        return keys
