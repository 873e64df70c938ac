"""Trace events of what becomes of an entry in collect. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from router.collect.entries import Entry, Message
from router.trace import Stage, TraceEvent

_SHOWN_CHARS: Final = 200
"""Most of a dead letter's own words that an event repeats: the letter itself is kept whole."""


def appended(message: Message, target: str, appended_ms: int | None = None) -> TraceEvent:
    """Return the event of a message's append, for one of its targets; `appended_ms` where that was not at its `ts`."""
    at_ms = message.ts_ms if appended_ms is None else appended_ms
    return TraceEvent(message.id, target, Stage.APPENDED, at_ms * 1_000, traceparent=dict(message.carried).get("traceparent"))


def waiting(message: Message, target: str, appended_ms: int, now_us: int) -> list[TraceEvent]:
    """Return the events of a message that is kept until its time, for one of its targets."""
    until = datetime.fromtimestamp(message.ts_ms / 1_000, UTC).isoformat(timespec="milliseconds")
    return [
        appended(message, target, min(appended_ms, now_us // 1_000)),
        TraceEvent(message.id, target, Stage.WAITING, now_us, why=f"kept until {until}"),
    ]


def settled(message: Message, target: str, stage: Stage, at_us: int, seq: int | None, why: str | None) -> list[TraceEvent]:
    """Return the events of a message that collect is done with, for one of its targets."""
    settled_now = TraceEvent(message.id, target, stage, at_us, seq=seq, why=why)
    # Of one that has waited it was told when it began to.
    return [settled_now] if message.at_ms is not None else [appended(message, target), settled_now]


def buried(entry: Entry, at_us: int, why: str) -> list[TraceEvent]:
    """Return the events of an entry that breaks the contract, where it asks for them; its id stands in for one not given."""
    fields = {name: value.decode(errors="replace")[:_SHOWN_CHARS] for name, value in entry.fields}
    if fields.get(b"trace") != "1":
        return []
    message_id, to = fields.get(b"id") or entry.id, fields.get(b"to", "")
    return [
        TraceEvent(message_id, to, Stage.APPENDED, min(entry.appended_ms * 1_000, at_us)),
        TraceEvent(message_id, to, Stage.DEAD, at_us, why=why),
    ]
