"""The owner of a shard: one batch after the other, from `in` to MongoDB to `out`.

Theory of operation. A batch goes through the same steps always: take, bury what breaks the contract, pass on what is
transient, give seqs, store, append. Nothing is remembered here from one try to the next. Whatever goes wrong, wherever, the
owner forgets the batch and takes again what still stands in `in`, up to the last entry that may have been given seqs; the steps
it had done already answer the same as before, because

- `pending` remembers the seqs given, and `era` up to which entry,
- MongoDB refuses an `_id` that it has, and tells what it has stored under it,
- append.lua does all of its work or nothing, and removes the entries in the same step.

What stands in `in` is what is to be done: nothing else remembers what was taken. So the bell may bring a batch as well as
take.lua, and saves a call where messages come one by one. It does not look at the lease, as every other step does that changes
anything, but for two: what is forwarded and what is kept until its time. Before those the lease is shown.

An entry to thousands makes as many items, so what is to be stored goes through in slices of `batch_max`, each placed, stored
and appended before the next; the last one's append removes the entries. An owner that is cut off between two leaves what
has been appended as a repetition for the next one, and no call to Redis or MongoDB is longer than that of an ordinary batch.

What has waited for its time (`at`) comes through beside: a batch of what is due, between two batches of `in`, so that neither
waits for more than one of the other. It takes the same steps, but for its beginning and its end: it is taken in hand in
MongoDB's `later`, in place of being taken from `in`, and removed from there last. Here too
whatever was done already answers as before, and what had gone out goes out once more with the seq it has.

One batch is in hand at a time, of either kind, and it is brought to its end before anything else is given a seq. Else a message
that is stored and not in `out` would stay behind a head that has passed it, and no session would look for it. So nothing that
is due is begun before all that was in hand of `in` is done. After a failure nothing is found there then, and what was
in hand of `later` comes next, whatever the clock says.

Before anything is taken again, the shard is recovered if Redis has changed, and the era found that seqs are given in
(`router.collect.recovery`).

A new owner is in no other position than an old one after an error, and begins the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import anyio
import structlog

from router import metrics
from router.bell import Bell
from router.collect.batch import Item, Part, Plan, append_again, due_items, plan_batch
from router.collect.entries import Entry, Message
from router.collect.eras import NONE_YET, Eras
from router.collect.intake import Broken, Cold, Forgetful, Given, Intake, Place, read_entries
from router.collect.joined import Lines
from router.collect.recovery import Recovery
from router.collect.schedule import Schedule
from router.collect.settled import Settled
from router.handover import Handover
from router.inbox import Inbox
from router.lines import build_frame
from router.outage import Outages
from router.settings import Settings
from router.stored import Document, Insertion, Stored, make_body_document, make_document
from router.streams import NEW, TAKEN_BEFORE
from router.turns import take_turns

log = structlog.get_logger(__name__)

_PLANS_A_LEASE: Final = 10
"""A plan is made without a pause, so nobody renews the lease meanwhile. There is JSON that takes a second for 3 MiB, such as
numbers near the end of what a double can say; a batch of it would cost the lease, and so would the next try."""


class Owner:
    """Collect's work on one shard while the lease is held.

    Args:
        shard: its number.
        intake: the shard's side of Redis.
        inbox: MongoDB's side.
        eras: what MongoDB knows of eras.
        bell: rings when `in` has news.
        outages: paces the tries and says so once.
        settings: limits and times.
        schedule: what waits for its time.
        handover: tells whether the shard is to be given back, which it is between two batches.
        clock_ms: tells the time in Unix ms.
    """

    def __init__(
        self,
        shard: int,
        intake: Intake,
        inbox: Inbox,
        eras: Eras,
        bell: Bell,
        outages: Outages,
        settings: Settings,
        schedule: Schedule,
        handover: Handover | None = None,
        *,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._shard = shard
        self._intake = intake
        self._inbox = inbox
        self._bell = bell
        self._outages = outages
        self._settings = settings
        self._schedule = schedule
        self._batch_size = metrics.BATCH_SIZE.labels("collect")
        self._retention_ms = int(settings.retention_s * 1000)
        self._handover = handover or Handover()
        self._clock_ms = clock_ms
        self._recovery = Recovery(shard, intake, inbox, eras, settings, self._mind_high_water)
        self._era = NONE_YET
        # What the bell has brought; and the last entry of the batch in hand, "" where none of it is of `in`.
        self._rung: Sequence[Any] = ()
        self._taken = ""

    async def run(self, held: str) -> None:
        """Work until the lease turns out to be lost or the shard is asked for, then return."""
        await take_turns(partial(self._turn, held), self._outages, self._handover)

    async def _turn(self, held: str, start: str) -> str:
        """Bring one batch through, or wait for one; return where to take from next."""
        rung, self._rung = self._rung, ()
        if start == TAKEN_BEFORE:
            rung = ()
            self._schedule.forget()
            self._era = await self._recovery.run(held)
        try:
            if start == NEW:
                await self._pass_due(held)
            entries = read_entries(rung) or await self._intake.take(held, start)
            # A full batch is hardly the last, and neither is one that was taken before. Behind any other the bell is asked at
            # once.
            last = start == NEW and len(entries) < self._settings.batch_max
            then = self._bell.call(self._quiet_ms()) if entries and last else b""
            cut = bool(entries) and await self.settle(held, entries, then, shown=not rung)
        except Forgetful:
            return TAKEN_BEFORE
        if cut or (entries and not last):
            return start
        if last:
            with self._handover.idle():
                self._rung = await self._bell.wait(self._quiet_ms())
        return NEW

    def _quiet_ms(self) -> int | None:
        """Return how long nothing is due; None as long as nothing waits."""
        return self._schedule.wait_ms(self._clock_ms())

    async def _pass_due(self, held: str) -> None:
        """Bring one batch of what is due to its end, if anything is."""
        now_ms = self._clock_ms()
        waiting = await self._schedule.take(now_ms)
        if not waiting:
            return
        self._taken = ""
        slices = _slices(due_items(waiting, self._settings), self._settings.batch_max)
        for items in slices:
            settled = await self._store(held, items, {}) if items else self._nothing_settled()
            dead = {item_id for item_id, _ in settled.dead}
            await self._intake.forward([append_again(item, self._shard, now_ms) for item in items if item.id in dead])
            # With the last of them nothing is in hand any more: what `pending` holds besides, a Redis has brought back that had
            # forgotten the end of an earlier batch.
            settled.alone = settled.alone or items is slices[-1]
            await self._hand_on(held, settled, items, [], trim=False)
        await self._schedule.sent(waiting, now_ms)

    async def settle(self, held: str, entries: Sequence[Entry], then: bytes = b"", *, shown: bool = True) -> bool:
        """Bring a batch to its end; return whether it had to be cut, so that its rest is to be taken again.

        Args:
            held: the lease.
            entries: the batch.
            then: what may be sent to Redis in one write with the end of the batch, if it is not cut.
            shown: whether the batch came to whoever showed the lease.

        Raises:
            Fenced: when the lease is not ours.
            Forgetful: when the shard has to be recovered first; take the batch again then.
            RedisError, PyMongoError: in an outage; take the batch again.
        """
        now_ms = self._clock_ms()
        deadline_s = time.monotonic() + self._settings.lease_ms / 1_000 / _PLANS_A_LEASE
        plan, count = plan_batch(entries, self._shard, now_ms, self._settings, lambda: time.monotonic() > deadline_s)
        self._batch_size.observe(count)
        if not shown and plan.goes_elsewhere:
            await self._intake.show(held)
        if plan.dead:
            await self._bury(held, plan.dead)
        cut = count < len(entries)
        self._taken = entries[count - 1].id
        # What waits may be due before the bell's wait is over, as that was asked for.
        then = b"" if cut or plan.waiting else then
        if plan.transient.entry_ids:
            alone = not plan.durable.entry_ids
            await self._pass_transient(held, plan.transient, alone, then if alone else b"")
        if plan.waiting:
            await self._schedule.keep(plan.waiting)
        await self._intake.tell(held, plan.events)
        if plan.durable.entry_ids:
            await self._pass_durable(held, plan, then)
        return cut

    async def _bury(self, held: str, dead: Sequence[tuple[str, str]]) -> None:
        moved = await self._intake.bury(held, dead)
        metrics.DEAD.labels(source="in").inc(moved)

    async def _pass_transient(self, held: str, part: Part, alone: bool, then: bytes) -> None:
        """Hand transient messages on before anything waits for MongoDB; `alone` when nothing of the batch is to wait for it."""
        await self._intake.forward(part.forwards)
        lines, entry_ids = part.lines.build(), part.entry_ids
        length = await self._intake.append(held, lines=lines, heads={}, entry_ids=entry_ids, item_ids=[], trim=alone, then=then)
        metrics.TRANSIENT.inc(part.lines.messages)
        await self._mind_high_water(length)

    async def _pass_durable(self, held: str, plan: Plan, then: bytes) -> None:
        *slices, last = _slices(plan.items, self._settings.batch_max)
        dead: list[tuple[str, str]] = []
        for items in slices:
            settled = await self._store(held, items, {})
            dead += settled.dead
            await self._hand_on(held, settled, items, [], trim=False)
        settled = await self._store(held, last, {}) if last else self._nothing_settled()
        # An entry may be dead for one target and stored for another: it is buried last, or a cut would lose the other.
        dead += settled.dead
        left = {entry_id for entry_id, _ in dead}
        await self._intake.forward(plan.durable.forwards)
        entry_ids = [entry_id for entry_id in plan.durable.entry_ids if entry_id not in left]
        # The bell would bring the dead once more.
        await self._hand_on(held, settled, last, entry_ids, trim=not dead, then=b"" if dead else then, dead=dead)

    async def _hand_on(
        self,
        held: str,
        settled: Settled,
        items: Sequence[Item],
        entry_ids: Sequence[str],
        *,
        trim: bool,
        then: bytes = b"",
        dead: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Move what is settled to `out`, remove those entries, and bury the dead."""
        length = await self._intake.append(
            held,
            lines=settled.lines.build(),
            heads=settled.heads,
            entry_ids=entry_ids,
            item_ids=None if settled.alone else [item.id for item in items],
            trim=trim,
            before=settled.before,
            then=then,
        )
        if dead:
            await self._bury(held, dead)
        await self._intake.tell(held, settled.events)
        await self._mind_high_water(length)

    def _nothing_settled(self) -> Settled:
        return Settled(Lines(self._settings.publish_max_bytes))

    async def _place(self, held: str, items: Sequence[Item], floors: dict[str, int]) -> Given:
        while isinstance(given := await self._intake.sequence(held, self._era, items, floors, self._taken), Cold):
            newest = await self._inbox.newest(given.targets)
            floors = floors | {target: newest.get(target, 0) for target in given.targets}
        return given

    async def _store(self, held: str, items: Sequence[Item], floors: dict[str, int]) -> Settled:
        """Sequence and store; what MongoDB had already goes out as it was stored."""
        # Not when the batch began: it may have stood still since, and recovery goes by the time of storing.
        now_ms = self._clock_ms()
        given = await self._place(held, items, floors)
        settled = self._nothing_settled()
        settled.at_us, settled.alone = now_ms * 1_000, given.alone
        placed: list[tuple[Item, Place]] = []
        for item, place in zip(items, given.places, strict=True):
            if isinstance(place, Broken):
                settled.bury(item, f"the counters of {item.target} are broken: {place.reason}")
            else:
                placed.append((item, place))
        documents = [self._document(item, place, now_ms) for item, place in placed]
        insertion = await self._inbox.insert(documents, self._bodies(placed, now_ms))
        settled.at_us = time.time_ns() // 1_000
        _note_latency(settled.at_us, placed)
        known = [placed[index][0].id for index in insertion.taken]
        repeated = await self._inbox.find(known) if known else {}
        taken = self._settle(settled, placed, documents, insertion, repeated)
        metrics.ACCEPTED.inc(len(placed) - len(insertion.refused) - len(insertion.taken))
        metrics.REPEATED.inc(len(repeated))
        if taken:
            log.warning("seq_taken", shard=self._shard, messages=len(taken))
            newest = await self._inbox.newest(sorted({item.target for item in taken}))
            settled.follow_with(await self._store(held, taken, newest))
        return settled

    @staticmethod
    def _settle(
        settled: Settled,
        placed: Sequence[tuple[Item, Place]],
        documents: Sequence[Document],
        insertion: Insertion,
        repeated: dict[str, Stored],
    ) -> list[Item]:
        """Settle what can be; return the items whose seq turned out to be another message's, to be placed above the newest."""
        settled.begin(placed)
        again: list[Item] = []
        refused, taken = insertion.refused, insertion.taken
        if not refused and not taken:
            for (item, place), document in zip(placed, documents, strict=True):
                settled.add(item, place, item.body or document["frame"])
            return again
        seqs = [place.seq for _, place in placed]
        for index in taken:
            if stored := repeated.get(placed[index][0].id):
                seqs[index] = stored.seq
        # In the order of seqs: after a cut, an item may be drawn again above one that was behind it and is stored.
        for index in sorted(range(len(placed)), key=seqs.__getitem__):
            item, place = placed[index]
            if index in refused:
                settled.bury(item, f"MongoDB refused it: {refused[index]}")
            elif index not in taken:
                settled.add(item, place, item.body or documents[index]["frame"])
            elif (stored := repeated.get(item.id)) and not stored.gone:
                settled.repeat(item, stored)
            elif stored:
                settled.pass_over(item.target, stored.seq)
            else:
                settled.pass_over(item.target, place.seq)
                again.append(item)
        return again

    def _document(self, item: Item, place: Place, now_ms: int) -> Document:
        message, body = item.message, item.body
        return make_document(
            target=item.target,
            message_id=message.id,
            place=(place.prev, place.seq),
            frame="" if body else build_frame(item.target, place.seq, message.id, message.ts_ms, message.content),
            body=body.id if body else "",
            carried=message.carried,
            trace=message.trace,
            exclude=message.exclude,
            collapse=message.collapse,
            now_ms=now_ms,
            shard=self._shard,
            expires_ms=self._expiry(message, now_ms),
        )

    def _bodies(self, placed: Sequence[tuple[Item, Place]], now_ms: int) -> list[Document]:
        """Return the bodies that documents of these items refer to."""
        shared = {item.body.id: (item.body, item.message) for item, _ in placed if item.body}
        return [make_body_document(body, self._expiry(message, now_ms)) for body, message in shared.values()]

    def _expiry(self, message: Message, now_ms: int) -> int:
        return message.expires_ms or now_ms + self._retention_ms

    async def _mind_high_water(self, length: int) -> None:
        """Let `out` drain when it is long: what waits in `in` is as safe, and `in` is what producers can see growing."""
        if length <= self._settings.out_high_water:
            return
        log.warning("out_high_water_reached", shard=self._shard)
        while await self._intake.out_length() > self._settings.out_high_water / 2:  # noqa: ASYNC110 - it is Redis' length
            await anyio.sleep(self._settings.wait_ms / 1000)
        log.info("out_drained", shard=self._shard)


def _slices(items: Sequence[Item], most: int) -> list[Sequence[Item]]:
    """Return the items, at most so many at a time; one slice of none where there are none."""
    return [items[first : first + most] for first in range(0, len(items) or 1, most)]


def _note_latency(stored_at_us: int, placed: Sequence[tuple[Item, Place]]) -> None:
    """Note how long the first message of a batch took to be stored; its `ts` is by Redis' clock, which may be ahead."""
    if placed:
        took_s = stored_at_us / 1_000_000 - placed[0][0].message.ts_ms / 1000
        metrics.LATENCY_SECONDS.labels("appended_to_stored").observe(max(0.0, took_s))
