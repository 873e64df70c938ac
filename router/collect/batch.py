"""What is to become of a batch of entries. Pure: values in, a plan out.

An entry's targets may lie in several shards. Those of this shard become items here, one a target; the others are re-appended,
a shard at a time, to that shard's `in` with the message's id, so that only the owner of a target ever sequences it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from router.collect import stages
from router.collect.entries import Entry, Message, read_message
from router.collect.joined import Lines
from router.errors import RuleBroken
from router.lines import build_frame
from router.settings import Settings
from router.shards import shard_of_target
from router.stored import Body, make_body
from router.trace import Stage, TraceEvent
from router.waiting import TARGETS_A_DOCUMENT, Waiting, waiting_key

_NOWHERE: Final[dict[int, list[str]]] = {}


class Item(msgspec.Struct, frozen=True, gc=False):
    """A durable message for one target of this shard.

    Attributes:
        id: its `_id`, and its field in `pending`.
        target: for whom.
        message: what.
        entry_id: of the entry that brought it.
        body: what it shares with the entry's other targets here, where they are many.
    """

    id: str
    target: str
    message: Message
    entry_id: str
    body: Body | None = None


class Forward(msgspec.Struct, frozen=True, gc=False):
    """What is re-appended to another shard's `in`."""

    shard: int
    fields: dict[str, bytes]


class Part(msgspec.Struct):
    """Entries that are done with together: when the forwards are appended and the lines are in `out`.

    Attributes:
        entry_ids: ascending.
        forwards: what goes to other shards, in order.
        lines: what can go out already, in order.
    """

    lines: Lines
    entry_ids: list[str] = msgspec.field(default_factory=list)
    forwards: list[Forward] = msgspec.field(default_factory=list)


class Plan(msgspec.Struct):
    """What is to become of a batch.

    Attributes:
        dead: (entry id, reason) of entries that break the contract.
        transient: what waits for nothing.
        durable: what waits until the items are stored.
        items: durable messages to sequence and store, in order, each `_id` once.
        waiting: what is kept until its time; its entries are among the durable ones.
        events: trace events of the dead, the transient, and what waits.
    """

    transient: Part
    durable: Part
    dead: list[tuple[str, str]] = msgspec.field(default_factory=list)
    items: list[Item] = msgspec.field(default_factory=list)
    waiting: list[Waiting] = msgspec.field(default_factory=list)
    events: list[TraceEvent] = msgspec.field(default_factory=list)

    @property
    def goes_elsewhere(self) -> bool:
        """Whether anything is to be changed by what does not look at the lease."""
        return bool(self.waiting or self.transient.forwards or self.durable.forwards)


def plan_batch(
    entries: Sequence[Entry], shard: int, now_ms: int, settings: Settings, time_is_up: Callable[[], bool] = lambda: False
) -> tuple[Plan, int]:
    """Return the plan for the first entries of a batch, and how many those are.

    An entry makes as many items, lines and forwards as it has targets, so a batch is cut where they reach `batch_max`, or
    their content `read_max_bytes`, where what many share counts once; or behind the entry after which `time_is_up`. What is
    left is taken again.
    """
    plan = Plan(Part(Lines(settings.publish_max_bytes)), Part(Lines(settings.publish_max_bytes)))
    seen: set[str] = set()
    size = content_bytes = 0
    size_max, bytes_max, alone = settings.batch_max, settings.read_max_bytes, settings.shards == 1
    for count, entry in enumerate(entries, start=1):
        try:
            message = read_message(entry, shard, now_ms, settings)
        except RuleBroken as exc:
            plan.dead.append((entry.id, str(exc)))
            plan.events += stages.buried(entry, now_ms * 1_000, str(exc))
        else:
            here, elsewhere = (message.targets, _NOWHERE) if alone else _by_shard(message.targets, shard, settings.shards)
            body = None if len(here) == 1 else _body_of(message, here, settings)
            if message.at_ms is None:
                _add(plan, seen, entry, message, here, body, now_ms)
            else:
                _add_waiting(plan, entry, message, here, shard, now_ms)
            if elsewhere:
                _add_forwards(plan, entry, message, elsewhere, now_ms)
            size += len(here) + len(elsewhere)
            content_bytes += len(message.content) * (len(elsewhere) + (len(here) if body is None else 1))
        if size >= size_max or content_bytes >= bytes_max or time_is_up():
            return plan, count
    return plan, len(entries)


def _body_of(message: Message, here: Sequence[str], settings: Settings) -> Body | None:
    """Return what a message's targets here share, where they are many. One that is traced has few, or is told of one by one."""
    if len(here) <= settings.targets_inline_max or message.trace:
        return None
    return make_body(message.id, message.ts_ms, message.content)


def _add(
    plan: Plan, seen: set[str], entry: Entry, message: Message, here: Sequence[str], body: Body | None, now_ms: int
) -> None:
    """Add what comes of a message for the targets of this shard."""
    if message.transient:
        _add_transient(plan, entry, message, here, body, now_ms)
        return
    plan.durable.entry_ids.append(entry.id)
    for target in here:
        if (item_id := f"{target} {message.id}") not in seen:
            seen.add(item_id)
            plan.items.append(Item(item_id, target, message, entry.id, body))


def _add_waiting(plan: Plan, entry: Entry, message: Message, here: Sequence[str], shard: int, now_ms: int) -> None:
    plan.durable.entry_ids.append(entry.id)
    for first in range(0, len(here), TARGETS_A_DOCUMENT):
        plan.waiting.append(_waiting(message, shard, here[first : first + TARGETS_A_DOCUMENT]))
    if message.trace:
        plan.events += [event for to in here for event in stages.waiting(message, to, entry.appended_ms, now_ms * 1_000)]


def _waiting(message: Message, shard: int, targets: Sequence[str]) -> Waiting:
    return Waiting(
        key=waiting_key(shard, message.id, targets, message.content),
        shard=shard,
        id=message.id,
        targets=tuple(targets),
        content=message.content,
        at_ms=message.ts_ms,
        expires_ms=message.expires_ms,
        trace=message.trace,
        carried=message.carried,
        exclude=message.exclude,
        collapse=message.collapse,
    )


def due_items(waiting: Sequence[Waiting], settings: Settings) -> list[Item]:
    """Return what has waited as items, in order, each `_id` once; the id of an item stands in for an entry's."""
    items: dict[str, Item] = {}
    for one in waiting:
        message = Message(
            targets=one.targets,
            id=one.id,
            ts_ms=one.at_ms,
            content=one.content,
            expires_ms=one.expires_ms,
            transient=False,
            trace=one.trace,
            carried=one.carried,
            exclude=one.exclude,
            collapse=one.collapse,
            at_ms=one.at_ms,
        )
        body = _body_of(message, one.targets, settings)
        for target in one.targets:
            item_id = f"{target} {one.id}"
            items.setdefault(item_id, Item(item_id, target, message, item_id, body))
    return list(items.values())


def append_again(item: Item, shard: int, now_ms: int) -> Forward:
    """Return an item that has waited and cannot be stored as an entry of its shard's own `in`, which is buried there."""
    message = item.message
    name, _, value = message.content.partition(":")
    name = name.strip('"')
    fields = {"to": item.target, "id": message.id, name: value if name == "body" else msgspec.json.decode(value, type=str)}
    fields |= dict(message.carried)
    fields |= {"exclude": message.exclude} if message.exclude else {}
    fields |= {"collapse": message.collapse} if message.collapse else {}
    fields |= {"trace": "1"} if message.trace else {}
    if message.expires_ms is not None:
        fields["ttl"] = str(max(1, _seconds_left(message.expires_ms, now_ms)))
    return Forward(shard, {field_name: text.encode() for field_name, text in fields.items()})


def _add_transient(plan: Plan, entry: Entry, message: Message, here: Sequence[str], body: Body | None, now_ms: int) -> None:
    plan.transient.entry_ids.append(entry.id)
    alive = _is_alive(message, now_ms)
    for target in here:
        if alive:
            what = body or build_frame(target, None, message.id, message.ts_ms, message.content)
            plan.transient.lines.add(
                target, (None, None), message.expires_ms, what, trace=message.trace, exclude=message.exclude
            )
        if message.trace:
            plan.events += _transient_events(target, message, None if alive else now_ms * 1_000)


def _add_forwards(plan: Plan, entry: Entry, message: Message, elsewhere: dict[int, list[str]], now_ms: int) -> None:
    if _is_alive(message, now_ms):
        part = plan.transient if message.transient else plan.durable
        part.forwards += [_forward(shard, targets, entry, message, now_ms) for shard, targets in elsewhere.items()]


def _is_alive(message: Message, now_ms: int) -> bool:
    return message.expires_ms is None or message.expires_ms > now_ms


def _by_shard(targets: Sequence[str], shard: int, shards: int) -> tuple[Sequence[str], dict[int, list[str]]]:
    """Return the targets of this shard, and those of others by shard."""
    by_shard: dict[int, list[str]] = {}
    for target in targets:
        by_shard.setdefault(shard_of_target(target, shards), []).append(target)
    return by_shard.pop(shard, ()), by_shard


def _forward(shard: int, targets: Sequence[str], entry: Entry, message: Message, now_ms: int) -> Forward:
    fields = {name.decode(): value for name, value in entry.fields}
    fields |= {"to": ",".join(targets).encode(), "id": message.id.encode()}
    if message.expires_ms is not None and (message.at_ms or 0) <= now_ms:
        # Over there the time is counted anew, so only what is left of it goes along. Until `at` all of it is left.
        fields["ttl"] = b"%d" % _seconds_left(message.expires_ms, now_ms)
    return Forward(shard, fields)


def _seconds_left(expires_ms: int, now_ms: int) -> int:
    """Return how long there is until then, in whole seconds rounded up."""
    return -((now_ms - expires_ms) // 1000)


def _transient_events(target: str, message: Message, expired_us: int | None) -> list[TraceEvent]:
    if expired_us is None:
        return [stages.appended(message, target)]
    return stages.settled(message, target, Stage.EXPIRED, expired_us, None, "its time was over before collect took it")
