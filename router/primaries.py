"""Which server is the primary of a slot now: of a Cluster, and of a primary that sentinels watch.

Theory of operation. What was found out last counts until somebody doubts it: a connection to that server broke or was not
made, the server turned out to be a replica (READONLY), or said who has the slot now (MOVED). Only a lookup that would lead to
a server in doubt asks anew, so an outage of one primary delays nobody who needs another. Who asks gets one answer, which may
be of yesterday: a failover takes its time. Then the next try fails too, and asks again; how fast is its caller's affair.

    known ──doubt(address)──▶ in doubt ──of(slot): ask──▶ known
      ▲───────────── moved(slot, address) ──────────────┘

It opens no connections itself. It never tells of a replica, and never chooses between two primaries: what a late one may do is
limited by fencing and eras (`router.lease`, `router.collect.recovery`).

Source: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#moved-redirection
"""

from __future__ import annotations

import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import anyio
import structlog
from redis.exceptions import ClusterDownError, RedisError

from router.redis_url import Address

log = structlog.get_logger(__name__)

ASK_TIMEOUT_S: Final = 1.0
"""How long one server may take to tell where the primaries are: others can be asked as well."""

ASK_EVERY_S: Final = 1.0
"""How long what a sentinel has told counts without another question."""

Slots = Mapping[tuple[int, int], Address]
"""First and last slot of a range → its primary."""

AskSlots = Callable[[Address], Awaitable[Slots]]
AskPrimary = Callable[[], Awaitable["Told"]]


class Primaries(ABC):
    """The primaries as this process knows them."""

    def __init__(self) -> None:
        self._doubted: set[Address] = set()
        self._asking = anyio.Lock()
        self._changed = anyio.Event()
        self._told_of: list[str] = []

    async def of(self, slot: int) -> Address:
        """Return the primary of a slot, asking first where it is not known or in doubt.

        Raises:
            RedisError, OSError: when nobody who was asked knows one.
        """
        known = self.known(slot)
        if known is None or known in self._doubted:
            await self._ask_anew(slot)
            known = self.known(slot)
        if known is None:
            raise ClusterDownError(f"CLUSTERDOWN no primary serves slot {slot}")
        return known

    async def all(self) -> Sequence[Address]:
        """Return all primaries.

        Raises:
            RedisError, OSError: when nobody who was asked knows them.
        """
        if not self.addresses() or self._doubted:
            await self._ask_anew(None)
        return self.addresses()

    def doubt(self, address: Address) -> None:
        """Note that a server may not be what it was."""
        self._doubted.add(address)

    async def left(self, slot: int, address: Address) -> None:
        """Return when a slot's primary is known to be another than this."""
        while self.known(slot) in {address, None}:
            await self._changed.wait()

    @abstractmethod
    def known(self, slot: int) -> Address | None:
        """Return the primary of a slot as it was last found out."""

    @abstractmethod
    def addresses(self) -> Sequence[Address]:
        """Return all primaries as they were last found out."""

    @abstractmethod
    def moved(self, slot: int, address: Address) -> None:
        """Note what a server has said of a slot that it does not have."""

    @abstractmethod
    async def _ask(self) -> None:
        """Find out anew who the primaries are.

        Raises:
            RedisError, OSError: when nobody knows.
        """

    async def _ask_anew(self, slot: int | None) -> None:
        """Ask, unless somebody else has asked while we waited for our turn."""
        async with self._asking:
            known = None if slot is None else self.known(slot)
            if known is not None and known not in self._doubted:
                return
            await self._ask()
            self._doubted.clear()

    def _note_change(self) -> None:
        told, self._told_of = self._told_of, [str(address) for address in self.addresses()]
        # What a person types logs nothing: its standard output may be read by a program.
        if told != self._told_of and structlog.is_configured():
            log.info("primaries_found", addresses=self._told_of)
        self._changed.set()
        self._changed = anyio.Event()


class ClusterPrimaries(Primaries):
    """The primaries of a Redis Cluster.

    Args:
        seeds: nodes that are known from the beginning.
        ask: returns the slots as a node knows them (CLUSTER SLOTS).
    """

    def __init__(self, seeds: Sequence[Address], ask: AskSlots) -> None:
        super().__init__()
        self._seeds = seeds
        self._ask_node = ask
        self._ranges: Slots = {}
        # Of the slots that have been asked for; one that has moved since the ranges were read is right here only.
        self._by_slot: dict[int, Address] = {}
        # Who did not answer when last asked.
        self._silent: set[Address] = set()

    def known(self, slot: int) -> Address | None:
        """Return the primary of a slot as it was last found out."""
        if slot not in self._by_slot:
            found = next((address for (first, last), address in self._ranges.items() if first <= slot <= last), None)
            if found is None:
                return None
            self._by_slot[slot] = found
        return self._by_slot[slot]

    def addresses(self) -> Sequence[Address]:
        """Return all primaries as they were last found out."""
        return sorted({*self._ranges.values()})

    def moved(self, slot: int, address: Address) -> None:
        """Note what a server has said of a slot that it does not have."""
        self._by_slot[slot] = address
        self._doubted.discard(address)
        self._note_change()

    async def _ask(self) -> None:
        failure: Exception = ClusterDownError("CLUSTERDOWN no node has been asked")
        for address in self._whom():
            try:
                with anyio.fail_after(ASK_TIMEOUT_S):
                    ranges = await self._ask_node(address)
            except (RedisError, OSError) as exc:
                failure = exc
                self._silent.add(address)
                continue
            self._silent.discard(address)
            if ranges:
                self._ranges, self._by_slot = ranges, {}
                self._note_change()
                return
        raise failure

    def _whom(self) -> list[Address]:
        """Return whom to ask, in this order: first who is not in doubt and answered last; not always the same."""
        known = [*{*self._ranges.values(), *self._by_slot.values(), *self._seeds}]
        random.shuffle(known)
        return sorted(known, key=(self._doubted | self._silent).__contains__)


@dataclass(frozen=True, slots=True)
class Told:
    """What a sentinel tells of a primary.

    Attributes:
        epoch: rises with each failover: who tells of a lower one has not heard of the last.
    """

    address: Address
    epoch: int


class SentinelPrimary(Primaries):
    """The primary that sentinels tell of; it has all slots.

    They are asked again and again: a primary that is replaced although it is well goes on serving for seconds, until they
    tell it, and whatever it takes in that time will be forgotten.

    Args:
        ask: asks one of them; not always the same one.
        now_s: a monotonic clock.
    """

    def __init__(self, ask: AskPrimary, now_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._ask_sentinel = ask
        self._now_s = now_s
        self._told: Told | None = None
        self._asked_at_s = -math.inf

    async def of(self, slot: int) -> Address:
        """Return the primary, asking first where it is not known, in doubt, or was asked for some time ago.

        Raises:
            RedisError, OSError: when it is not known, and nobody who was asked knows.
        """
        if self._told is not None and self._now_s() - self._asked_at_s > ASK_EVERY_S:
            self._asked_at_s = self._now_s()
            with suppress(RedisError, OSError):
                await self._ask()
        return await super().of(slot)

    def known(self, slot: int) -> Address | None:
        """Return the primary as it was last found out."""
        del slot
        return None if self._told is None else self._told.address

    def addresses(self) -> Sequence[Address]:
        """Return the primary as it was last found out."""
        return [] if self._told is None else [self._told.address]

    def moved(self, slot: int, address: Address) -> None:
        """Sentinels know nothing of slots."""
        del slot, address

    async def _ask(self) -> None:
        told = await self._ask_sentinel()
        self._asked_at_s = self._now_s()
        if self._told is None or told.epoch > self._told.epoch:
            self._told = told
            self._note_change()
