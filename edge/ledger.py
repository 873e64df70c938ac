"""Which users' routes are to be written next: those that changed, then those whose renewal is due.

Pure bookkeeping of one shard. What is written is never kept here: the writer looks it up in the table of sessions when it
writes, so that a user who comes and goes and comes again needs one write, of the state that then is. A user is in the
hands of the writer or waits here, so at most one write a user is in flight.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

_MOMENTS_A_RENEWAL: Final = 80
"""How many moments there are at which renewals come due, in the longest time to one: those of one moment share a script call,
which alone costs as much as some twenty users in it. A quarter of a second apart where routes live for a minute.
"""

Waiter = Callable[[int | None, int], None]
"""Is told the head of the user's target, None where Redis cannot tell it, and the time by Redis, µs; both as after the ask."""


@dataclass(slots=True)
class Write:
    """A user whose route is to be written.

    Attributes:
        waiters: told the head once it is written; each with what the user's other nodes are told of its device, or "".
        doubtful: messages may have been missed since the last write, so the head is to be compared.
    """

    user: str
    waiters: dict[Waiter, str] = field(default_factory=dict)
    doubtful: bool = False


class Ledger:
    """What is to be written of one shard's routes.

    Args:
        renew_s: longest time from a route's write to its renewal. Each is drawn between about three quarters of it and the
            whole, so that routes written in one burst (Redis is back) are not renewed in one.
        draw: returns a number from 0 to 1.
    """

    def __init__(self, renew_s: float, draw: Callable[[], float] = random.random) -> None:
        self._renew_s = renew_s
        self._moment_s = renew_s / _MOMENTS_A_RENEWAL
        self._draw = draw
        self._asked: dict[str, Write] = {}
        self._in_hand: dict[str, Write] = {}
        self._due_s: dict[str, float] = {}
        # May hold entries that _due_s no longer agrees with; they are passed over when they come up.
        self._heap: list[tuple[float, str]] = []

    @property
    def asked(self) -> int:
        """How many users wait to be written, renewals left out."""
        return len(self._asked)

    @property
    def next_renewal_s(self) -> float:
        """When the next renewal may be due; infinity where there is none."""
        return self._heap[0][0] if self._heap else math.inf

    def ask(self, user: str, waiter: Waiter | None = None, come: str = "", *, doubtful: bool = False) -> None:
        """Have a user's route written soon."""
        write = self._asked.setdefault(user, Write(user))
        write.doubtful = write.doubtful or doubtful
        if waiter is not None:
            write.waiters[waiter] = come

    def withdraw(self, user: str, waiter: Waiter) -> None:
        """Forget a waiter that need not be told any more, if it still waits."""
        for writes in (self._asked, self._in_hand):
            if user in writes:
                writes[user].waiters.pop(waiter, None)

    def take(self, now_s: float, most: int) -> list[Write]:
        """Return up to `most` writes to carry out now. Give each to `done`, or all of them to `give_back`."""
        writes = [self._asked.pop(user) for user in list(islice(self._asked, most))]
        taken = {write.user for write in writes}
        while len(writes) < most and self.next_renewal_s <= now_s:
            due_s, user = heapq.heappop(self._heap)
            if self._due_s.get(user) == due_s and user not in taken:
                writes.append(Write(user))
        self._in_hand.update((write.user, write) for write in writes)
        return writes

    def give_back(self, writes: Iterable[Write]) -> None:
        """Note that these were not written, or that it is not known."""
        for write in writes:
            self._in_hand.pop(write.user, None)
            since = self._asked.pop(write.user, Write(write.user))
            # It may have been written, and its lost answer alone have told that the route had lapsed.
            self._asked[write.user] = Write(write.user, write.waiters | since.waiters, doubtful=True)

    def done(self, user: str, now_s: float, *, held: bool) -> bool:
        """Note that a user's route was written (`held`) or removed; tell whether it had been written before."""
        self._in_hand.pop(user, None)
        known = self._due_s.pop(user, None) is not None
        if held:
            due_s = self._moment_before(now_s + self._renew_s * (3 + self._draw()) / 4)
            self._due_s[user] = due_s
            heapq.heappush(self._heap, (due_s, user))
        return known

    def _moment_before(self, at_s: float) -> float:
        return at_s // self._moment_s * self._moment_s
