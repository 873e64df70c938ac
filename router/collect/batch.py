"""What is to become of a batch of entries. Pure: values in, a plan out.

An entry's targets may lie in several shards. Those of this shard become items here, one a target; the others are re-appended,
a shard at a time, to that shard's `in` with the message's id, so that only the owner of a target ever sequences it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from router.collect import stages
from router.collect.entries import Entry, Message, read_message
from router.errors import RuleBroken
from router.lines import build_frame, build_line
from router.settings import Settings
from router.shards import shard_of_target
from router.trace import Stage, TraceEvent


class Item(msgspec.Struct, frozen=True, gc=False):
    """A durable message for one target of this shard; `id` is its `_id` and its field in `pending`."""

    id: str
    target: str
    message: Message
    entry_id: str


@dataclass(frozen=True, slots=True)
class Forward:
    """What is re-appended to another shard's `in`."""

    shard: int
    fields: dict[str, bytes]


@dataclass(slots=True)
class Part:
    """Entries that are done with together: when the forwards are appended and the lines are in `out`.

    Attributes:
        entry_ids: ascending.
        forwards: what goes to other shards, in order.
        lines: payload lines that are finished already, in order.
    """

    entry_ids: list[str] = field(default_factory=list)
    forwards: list[Forward] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """What is to become of a batch.

    Attributes:
        dead: (entry id, reason) of entries that break the contract.
        transient: what waits for nothing.
        durable: what waits until the items are stored.
        items: durable messages to sequence and store, in order, each `_id` once.
        events: trace events of the dead and the transient.
    """

    dead: list[tuple[str, str]] = field(default_factory=list)
    transient: Part = field(default_factory=Part)
    durable: Part = field(default_factory=Part)
    items: list[Item] = field(default_factory=list)
    events: list[TraceEvent] = field(default_factory=list)


def plan_batch(
    entries: Sequence[Entry], shard: int, now_ms: int, settings: Settings, time_is_up: Callable[[], bool] = lambda: False
) -> tuple[Plan, int]:
    """Return the plan for the first entries of a batch, and how many those are.

    An entry makes as many items, lines and forwards as it has targets, so a batch is cut where they reach `batch_max`, or
    their content `read_max_bytes`; or behind the entry after which `time_is_up`. What is left is taken again.
    """
    plan = Plan()
    seen: set[str] = set()
    size = content_bytes = 0
    shards, size_max, bytes_max = settings.shards, settings.batch_max, settings.read_max_bytes
    for count, entry in enumerate(entries, start=1):
        try:
            message = read_message(entry, shard, now_ms, settings)
        except RuleBroken as exc:
            plan.dead.append((entry.id, str(exc)))
            plan.events += stages.buried(entry, now_ms * 1_000, str(exc))
        else:
            size += _add(plan, seen, entry, message, shard, shards, now_ms)
            content_bytes += len(message.content) * len(message.targets)
        if size >= size_max or content_bytes >= bytes_max or time_is_up():
            return plan, count
    return plan, len(entries)


def _add(plan: Plan, seen: set[str], entry: Entry, message: Message, shard: int, shards: int, now_ms: int) -> int:
    """Add what comes of a message; return how many that may be, one a target or shard."""
    part = plan.transient if message.transient else plan.durable
    part.entry_ids.append(entry.id)
    alive = message.expires_ms is None or message.expires_ms > now_ms
    here, elsewhere = _by_shard(message.targets, shard, shards)
    for target in here:
        if message.transient:
            if alive:
                part.lines.append(transient_line(target, message))
            if message.trace:
                plan.events += _transient_events(target, message, None if alive else now_ms * 1_000)
        elif (item_id := f"{target} {message.id}") not in seen:
            seen.add(item_id)
            plan.items.append(Item(item_id, target, message, entry.id))
    if alive and elsewhere:
        part.forwards += [_forward(its_shard, targets, entry, message, now_ms) for its_shard, targets in elsewhere.items()]
    return len(here) + len(elsewhere)


def _by_shard(targets: Sequence[str], shard: int, shards: int) -> tuple[Sequence[str], dict[int, list[str]]]:
    """Return the targets of this shard, and those of others by shard."""
    if shards == 1:
        return targets, {}
    by_shard: dict[int, list[str]] = {}
    for target in targets:
        by_shard.setdefault(shard_of_target(target, shards), []).append(target)
    return by_shard.pop(shard, ()), by_shard


def _forward(shard: int, targets: Sequence[str], entry: Entry, message: Message, now_ms: int) -> Forward:
    fields = {name.decode(): value for name, value in entry.fields}
    fields |= {"to": ",".join(targets).encode(), "id": message.id.encode()}
    if message.expires_ms is not None:
        # Over there the time is counted anew, so only what is left of it goes along, in whole seconds rounded up.
        fields["ttl"] = b"%d" % -((now_ms - message.expires_ms) // 1000)
    return Forward(shard, fields)


def transient_line(target: str, message: Message) -> str:
    """Return the payload line of a transient message for one of its targets."""
    frame = build_frame(target, None, message.id, message.ts_ms, message.content)
    return build_line(target, None, None, message.expires_ms, frame, trace=message.trace, exclude=message.exclude)


def _transient_events(target: str, message: Message, expired_us: int | None) -> list[TraceEvent]:
    if expired_us is None:
        return [stages.appended(message, target)]
    return stages.settled(message, target, Stage.EXPIRED, expired_us, None, "its time was over before collect took it")
