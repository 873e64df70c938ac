"""Trace events: what became of a message sent with `trace 1`, stage by stage.

Each stage appends an event to `push:{s}:trace`, in the shard of the target. The fields, in this order:

    id       the message's
    to       the target; a dead letter's `to` as the producer gave it
    stage    one of `Stage`
    at       Unix µs, by the clock of whoever tells; `appended` by that of Redis, which counts in ms there
    by       the worker or node that tells

and, where they say something, `seq`, `session`, `device`, `nodes` (comma-separated), `why` and `traceparent`.

Events are for people, and a best effort: the stream is capped, and one that cannot be written at once is dropped and
counted. No message ever fails for it, or waits longer than `WRITE_TIMEOUT_S`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import anyio
import structlog
from redis.asyncio import Redis

from router.keys import Keys
from router.metrics import TRACE_LOST
from router.redis_client import OUTAGE
from router.settings import Settings
from router.shards import shard_of_target

log = structlog.get_logger(__name__)

WRITE_TIMEOUT_S: Final = 0.25
"""How long a write of events may take: a moment, since messages may wait behind it."""

_PAGE: Final = 1_000
"""Events read at once."""


class Stage(StrEnum):
    """A station of a message."""

    APPENDED = "appended"
    WAITING = "waiting"
    """It has an `at` that is not past, and is kept until then; `why` says so."""
    STORED = "stored"
    REPEATED = "repeated"
    """The id had been accepted before; the message goes out once more as it was stored then."""
    DEAD = "dead"
    DISPATCHED = "dispatched"
    OFFLINE = "offline"
    """It may have reached nobody; `why` is the reason of the offline report."""
    DELIVERED = "delivered"
    REPLAYED = "replayed"
    """Delivered from the inbox."""
    EXPIRED = "expired"
    ACKED = "acked"


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One event.

    Attributes:
        id: the message's id.
        to: the target.
        stage: what happened; a later version may know further ones.
        at_us: when, Unix µs.
        by: the worker or node; "" until it is written.
        seq: the message's, where it has one.
        session: of delivered, replayed and acked.
        device: that session's, where it has a name.
        nodes: of dispatched: who it was published to; none for a topic and `all`, whose channels have no list.
        why: of waiting, dead, offline and expired.
        traceparent: of appended: what the producer carried along.
    """

    id: str
    to: str
    stage: str
    at_us: int
    by: str = ""
    seq: int | None = None
    session: str | None = None
    device: str | None = None
    nodes: tuple[str, ...] = ()
    why: str | None = None
    traceparent: str | None = None

    def fields(self, by: str) -> dict[str, str | int]:
        """Return the fields of the entry, told by `by`."""
        fields: dict[str, str | int] = {"id": self.id, "to": self.to, "stage": self.stage, "at": self.at_us, "by": by}
        more = {
            "seq": self.seq,
            "session": self.session,
            "device": self.device,
            "nodes": ",".join(self.nodes) or None,
            "why": self.why,
            "traceparent": self.traceparent,
        }
        return fields | {name: value for name, value in more.items() if value is not None}


def describe(event: TraceEvent) -> dict[str, object]:
    """Return what an event says, for JSON: `at_us` for its time, `nodes` a list, and only what there is."""
    fields = {slot: getattr(event, slot) for slot in TraceEvent.__slots__ if slot != "id"}
    return {name: value for name, value in fields.items() if value is not None and value != ()}


def read_event(fields: Mapping[bytes, bytes]) -> TraceEvent | None:
    """Return the event that an entry holds, or None where it holds none: anybody may append to a stream."""
    text = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in fields.items()}
    try:
        return TraceEvent(
            id=text["id"],
            to=text["to"],
            stage=text["stage"],
            at_us=int(text["at"]),
            by=text["by"],
            seq=int(text["seq"]) if "seq" in text else None,
            session=text.get("session"),
            device=text.get("device"),
            nodes=tuple(text["nodes"].split(",")) if "nodes" in text else (),
            why=text.get("why"),
            traceparent=text.get("traceparent"),
        )
    except (KeyError, ValueError):
        return None


class Tracer:
    """Writes events to the trace streams of all shards.

    Args:
        redis: where they are.
        settings: prefix, shards and `trace_max`.
    """

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings

    async def write(self, by: str, events: Sequence[TraceEvent]) -> bool:
        """Append events that `by` tells of, in one go; none costs nothing.

        Tell whether that went well. If not, they are dropped, and it is not known which of them stand there.
        """
        if not events:
            return True
        try:
            with anyio.fail_after(WRITE_TIMEOUT_S):
                errors = await self._append(by, events)
        except (*OUTAGE, TimeoutError) as exc:
            errors = [exc] * len(events)
        if errors:
            TRACE_LOST.inc(len(errors))
            log.warning("trace_events_lost", events=len(errors), error=str(errors[0]), kind=type(errors[0]).__name__)
        return not errors

    async def _append(self, by: str, events: Iterable[TraceEvent]) -> list[Exception]:
        prefix, shards, most = self._settings.prefix, self._settings.shards, self._settings.trace_max
        async with self._redis.pipeline(transaction=False) as pipe:
            for event in events:
                # What a dead letter gives for its targets may be anything; it lands in one of the shards.
                key = Keys(prefix, shard_of_target(event.to, shards)).trace()
                fields: dict[Any, Any] = event.fields(by)
                pipe.xadd(key, fields, maxlen=most, approximate=True)
            return [answer for answer in await pipe.execute(raise_on_error=False) if isinstance(answer, Exception)]


async def read_events(redis: Redis, settings: Settings, message_id: str) -> list[TraceEvent]:
    """Return all events of an id, by time; the shards' streams are read whole, as nothing says which of them it is in.

    Raises:
        RedisError: when Redis is away.
    """
    found: list[TraceEvent] = []
    for shard in range(settings.shards):
        found += await _read_shard(redis, Keys(settings.prefix, shard).trace(), message_id)
    return by_time(found)


def by_time(events: Iterable[TraceEvent]) -> list[TraceEvent]:
    """Return events in the order of what happened, which is not that of the stream: each service writes in its own time."""
    order: dict[str, int] = {stage: place for place, stage in enumerate(Stage)}
    return sorted(events, key=lambda event: (event.at_us, order.get(event.stage, len(order))))


async def _read_shard(redis: Any, key: str, message_id: str) -> list[TraceEvent]:  # noqa: ANN401 - see below
    # `redis` is Any: the driver's types name the replies of every protocol at once.
    found: list[TraceEvent] = []
    begin, wanted = "-", message_id.encode()
    while page := await redis.xrange(key, begin, "+", count=_PAGE):
        events = (read_event(fields) for _, fields in page if fields.get(b"id") == wanted)
        found += [event for event in events if event is not None]
        begin = f"({page[-1][0].decode()}"
    return found
