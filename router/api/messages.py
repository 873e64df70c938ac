"""/v1/messages/{id}: what has become of a message, for each of its targets; and calling back one that waits for its time.

MongoDB says what is stored and which devices have acknowledged; the trace stream, of a message sent with `trace 1`, what
happened on the way. An id that is not stored may be anything: the answer says what it may be, and looks among the newest dead
letters.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, Literal

import msgspec
import structlog
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from router.api.openapi import AWAY
from router.api.times import rfc3339, rfc3339_of_ms
from router.cursors import Cursors, DeviceCursor
from router.http.operations import JSON, Answer, Id, Operation, Parameter, Time
from router.http.problems import Problem
from router.inbox import Inbox
from router.keys import Keys
from router.later import Later
from router.settings import Settings
from router.stored import Kept
from router.streams import looks_like_entry
from router.targets import USER_PREFIX, check_id
from router.trace import TraceEvent, describe, read_events
from router.waiting import Waiting

TARGETS_MAX: Final = 1_000
"""Most targets of a message that are told of."""

WITH_DEVICES_MAX: Final = 100
"""Most targets of a message whose devices are told of: each is a query."""

_DEVICES_MAX: Final = 1_000
"""Most devices of a user that are told of."""

_DEAD_SCANNED_MAX: Final = 1_000
"""Newest dead letters of each shard that are looked through for an id that is not stored."""

_DEAD_AT_ONCE: Final = 50

_NONE_WAITS: Final = (
    "no message of this id waits: there was none, it is sent, or it was called back. One that has just been appended waits as "
    "soon as it is accepted; GET tells."
)

log = structlog.get_logger(__name__)


class DeviceState(msgspec.Struct, frozen=True):
    """Up to where a device has acknowledged, and when it came or acknowledged last."""

    device: Id
    cursor: int
    seen_at: Time


class TargetState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What has become of a message for one target; `acked` and `not_acked` are there for users only.

    Attributes:
        at: when it is sent, while it waits for that. Then it has no place, and is not stored for the target.
    """

    to: str
    state: Literal["stored", "expired", "waiting", "sending"]
    seq: int | msgspec.UnsetType = msgspec.UNSET
    stored_at: Time | msgspec.UnsetType = msgspec.UNSET
    expires_at: Time | msgspec.UnsetType = msgspec.UNSET
    at: Time | msgspec.UnsetType = msgspec.UNSET
    carried: Mapping[str, str] = {}
    exclude: str = ""
    acked: tuple[DeviceState, ...] | msgspec.UnsetType = msgspec.UNSET
    not_acked: tuple[DeviceState, ...] | msgspec.UnsetType = msgspec.UNSET


class TraceState(msgspec.Struct, frozen=True):
    """An event on a message's way; `at_us` is in Unix µs."""

    to: str
    stage: str
    at_us: int
    by: str
    seq: int | msgspec.UnsetType = msgspec.UNSET
    session: str | msgspec.UnsetType = msgspec.UNSET
    device: str | msgspec.UnsetType = msgspec.UNSET
    nodes: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    why: str | msgspec.UnsetType = msgspec.UNSET
    traceparent: str | msgspec.UnsetType = msgspec.UNSET


class MessageState(msgspec.Struct, frozen=True):
    """What has become of a message; `trace` is there when one of its targets was stored with it.

    Attributes:
        more_targets: there are more than those told of.
    """

    id: Id
    targets: tuple[TargetState, ...]
    more_targets: bool
    trace: tuple[TraceState, ...] | msgspec.UnsetType = msgspec.UNSET


class Called(msgspec.Struct, frozen=True):
    """What was called back.

    Attributes:
        cancelled: how many targets it will not be sent to.
        sending: how many it is just being sent to: those get it.
    """

    id: Id
    cancelled: int
    sending: int


_TIMES = ("2026-11-22T17:14:30.698Z", "2026-12-22T17:14:30.698Z")
_EXAMPLE = MessageState(
    "order-4711",
    (
        TargetState(
            "user:alice",
            "stored",
            1795360470698378,
            *_TIMES,
            acked=(DeviceState("phone", 1795360470698378, "2026-11-22T17:14:33.120Z"),),
            not_acked=(),
        ),
    ),
    more_targets=False,
)

GET_MESSAGE: Final = Operation(
    id="get_message",
    method="GET",
    path="/v1/messages/{id}",
    scope="read",
    summary="What has become of a message",
    description="For each target: whether it is stored, its place in the target's order, and which of a user's devices have "
    "acknowledged it; of a message that waits for its `at`, when that is; of one sent with `trace`, its events. The id is the "
    f"producer's, or the one that the API or collect made. {TARGETS_MAX:,} targets are told of at most, and devices where "
    f"there are no more than {WITH_DEVICES_MAX}.",
    parameters=(Parameter("id", "path", Id, "The message's id, percent-encoded.", example="order-4711", slashes=True),),
    answers=(Answer(HTTPStatus.OK, MessageState, "The message is stored, or waits.", example=_EXAMPLE),),
    problems={HTTPStatus.NOT_FOUND: "No message of that id is stored; `detail` says what that may mean.", **AWAY},
)

DELETE_MESSAGE: Final = Operation(
    id="cancel_message",
    method="DELETE",
    path="/v1/messages/{id}",
    scope="send",
    summary="Call a message back",
    description="Takes back a message that waits for its `at`, for all of its targets. What is sent is not called back.",
    parameters=(Parameter("id", "path", Id, "The message's id, percent-encoded.", example="reminder-7", slashes=True),),
    answers=(Answer(HTTPStatus.OK, Called, "It will not be sent.", example=Called("reminder-7", cancelled=2, sending=0)),),
    problems={
        HTTPStatus.NOT_FOUND: "No message of that id waits: there was none, it is sent, or it was called back.",
        HTTPStatus.CONFLICT: "It is just being sent.",
        **AWAY,
    },
)

_ENTRY_ADVICE: Final = (
    "no message of this id is stored. It looks like what XADD returned: that is the id of the entry in the stream, and not the "
    "message's. Append with a field `id` of your own, and ask for that one."
)


class Messages:
    """Answers for single messages.

    Args:
        redis: where traces and dead letters are.
        inbox: what is stored.
        cursors: what devices have acknowledged.
        later: what waits for its time.
        settings: prefix and shards.
    """

    def __init__(self, redis: Redis, inbox: Inbox, cursors: Cursors, later: Later, settings: Settings) -> None:
        self._redis = redis
        self._inbox = inbox
        self._cursors = cursors
        self._later = later
        self._settings = settings

    async def get(self, request: Request) -> Response:
        """Tell what has become of a message.

        Raises:
            RuleBroken: when the id is none.
            Problem: 404 when it is not stored.
            PyMongoError, RedisError: in an outage.
        """
        message_id = check_id(request.path_params["id"], "id")
        # What waits first: what is sent between the two is found stored.
        waiting = await self._later.waiting_with_id(message_id)
        found = await self._inbox.with_id(message_id, TARGETS_MAX + 1)
        if not found and not waiting:
            raise await self._missing(message_id)
        now = datetime.now(UTC)
        devices = len(found) <= WITH_DEVICES_MAX
        targets = [await self._target(kept, now, devices=devices) for kept in found]
        targets += _waiting(waiting, {kept.target for kept in found})
        trace = await self._trace(message_id) if any(kept.trace for kept in found) else msgspec.UNSET
        answer = MessageState(message_id, tuple(targets[:TARGETS_MAX]), len(targets) > TARGETS_MAX, trace)
        return Response(msgspec.json.encode(answer), media_type=JSON)

    async def delete(self, request: Request) -> Response:
        """Call a message back that waits for its time.

        Raises:
            RuleBroken: when the id is none.
            Problem: 404 when none waits, 409 when it is being sent.
            PyMongoError: in an outage; it is unknown what was called back.
        """
        message_id = check_id(request.path_params["id"], "id")
        done = await self._later.cancel(message_id)
        if not done.targets and done.sending:
            raise Problem(HTTPStatus.CONFLICT, "the message is just being sent, and cannot be called back", field="id")
        if not done.targets:
            raise Problem(HTTPStatus.NOT_FOUND, _NONE_WAITS, field="id")
        log.info("message_cancelled", id=message_id, targets=done.targets, sending=done.sending)
        return Response(msgspec.json.encode(Called(message_id, done.targets, done.sending)), media_type=JSON)

    async def _target(self, kept: Kept, now: datetime, *, devices: bool) -> TargetState:
        state = TargetState(
            to=kept.target,
            state="stored" if kept.expires_at > now else "expired",
            seq=kept.seq,
            stored_at=rfc3339(kept.stored_at),
            expires_at=rfc3339(kept.expires_at),
            carried=kept.carried,
            exclude=kept.exclude,
        )
        if not devices or not kept.target.startswith(USER_PREFIX):
            return state
        user = kept.target.removeprefix(USER_PREFIX)
        return _with_devices(state, kept.seq, await self._cursors.of_user(user, kept.target, _DEVICES_MAX))

    async def _trace(self, message_id: str) -> tuple[TraceState, ...]:
        return tuple(map(_told, await read_events(self._redis, self._settings, message_id)))

    async def _missing(self, message_id: str) -> Problem:
        return Problem(
            HTTPStatus.NOT_FOUND,
            await self._dead_letter(message_id)
            or (_ENTRY_ADVICE if looks_like_entry(message_id) else "")
            or f"no message of this id is stored. It was never appended, or waits in {self._settings.prefix}:{{s}}:in and is "
            "not stored yet; it was transient, which is never stored; it is a dead letter, older than those looked through "
            "here; or its retention and the time in which its id refuses a second one are over.",
        )

    async def _dead_letter(self, message_id: str) -> str:
        for shard in range(self._settings.shards):
            key = Keys(self._settings.prefix, shard).dead()
            async for letters in self._newest_letters(key):
                found = _find_letter(letters, message_id.encode())
                if found is not None:
                    return f"the message is a dead letter, {found[0]} of {key}: {found[1]}"
        return ""

    async def _newest_letters(self, key: str) -> AsyncIterator[Sequence[Any]]:
        """Yield the newest dead letters, some at a time: each is a whole entry, and may have died of its length."""
        before = "+"
        for _ in range(_DEAD_SCANNED_MAX // _DEAD_AT_ONCE):
            # The driver's types name the replies of every protocol at once.
            letters: Any = await self._redis.xrevrange(key, before, count=_DEAD_AT_ONCE)
            yield letters
            if len(letters) < _DEAD_AT_ONCE:
                return
            before = f"({letters[-1][0].decode()}"


def _find_letter(letters: Iterable[Any], message_id: bytes) -> tuple[str, str] | None:
    """Return the entry id of the first dead letter whose `id` is this one, and its reason."""
    for entry_id, fields in letters:
        if fields.get(b"id") == message_id:
            return entry_id.decode(), fields.get(b"reason", b"").decode(errors="replace")
    return None


def _waiting(waiting: Iterable[Waiting], stored: Collection[str]) -> list[TargetState]:
    """Return what waits, but for what is stored by now."""
    return [
        TargetState(target, "sending" if one.in_hand else "waiting", at=rfc3339_of_ms(one.at_ms))
        for one in waiting
        for target in one.targets
        if target not in stored
    ]


def _with_devices(state: TargetState, seq: int, devices: Sequence[DeviceCursor]) -> TargetState:
    """Tell who has acknowledged, and who is yet to. A device that began behind the message is none of its own."""
    own = [device for device in devices if device.began < seq]
    return msgspec.structs.replace(
        state,
        acked=tuple(_device(device) for device in own if device.seq >= seq),
        not_acked=tuple(_device(device) for device in own if device.seq < seq),
    )


def _device(device: DeviceCursor) -> DeviceState:
    return DeviceState(device.device, device.seq, rfc3339(device.seen_at))


def _told(event: TraceEvent) -> TraceState:
    return msgspec.convert(describe(event), TraceState)
