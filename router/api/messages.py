"""GET /v1/messages/{id}: what has become of a message, for each of its targets.

MongoDB says what is stored and which devices have acknowledged; the trace stream, of a message sent with `trace 1`, what
happened on the way. An id that is not stored may be anything: the answer says what it may be, and looks among the newest dead
letters.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, Literal

import msgspec
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from router.api.openapi import AWAY
from router.api.times import rfc3339
from router.cursors import Cursors, DeviceCursor
from router.http.operations import JSON, Answer, Id, Operation, Parameter, Time
from router.http.problems import Problem
from router.inbox import Inbox
from router.keys import Keys
from router.settings import Settings
from router.stored import Kept
from router.targets import USER_PREFIX, check_id
from router.trace import TraceEvent, describe, read_events

_DEVICES_MAX: Final = 1_000
"""Most devices of a user that are told of."""

_DEAD_SCANNED_MAX: Final = 1_000
"""Newest dead letters of each shard that are looked through for an id that is not stored."""

_DEAD_AT_ONCE: Final = 50


class DeviceState(msgspec.Struct, frozen=True):
    """Up to where a device has acknowledged, and when it came or acknowledged last."""

    device: Id
    cursor: int
    seen_at: Time


class TargetState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What has become of a message for one target; `acked` and `not_acked` are there for users only."""

    to: str
    state: Literal["stored", "expired"]
    seq: int
    stored_at: Time
    expires_at: Time
    carried: Mapping[str, str] = {}
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
    """What has become of a message; `trace` is there when one of its targets was stored with it."""

    id: Id
    targets: tuple[TargetState, ...]
    trace: tuple[TraceState, ...] | msgspec.UnsetType = msgspec.UNSET


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
)

GET_MESSAGE: Final = Operation(
    id="get_message",
    method="GET",
    path="/v1/messages/{id}",
    summary="What has become of a message",
    description="For each target: whether it is stored, its place in the target's order, and which of a user's devices have "
    "acknowledged it; of a message sent with `trace`, its events. The id is the producer's, or the one that the API or collect "
    "made.",
    parameters=(Parameter("id", "path", Id, "The message's id, percent-encoded.", example="order-4711", slashes=True),),
    answers=(Answer(HTTPStatus.OK, MessageState, "The message is stored.", example=_EXAMPLE),),
    problems={HTTPStatus.NOT_FOUND: "No message of that id is stored; `detail` says what that may mean.", **AWAY},
)

_ENTRY_ID: Final = re.compile(r"\d{13,}-\d+")

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
        settings: prefix and shards.
    """

    def __init__(self, redis: Redis, inbox: Inbox, cursors: Cursors, settings: Settings) -> None:
        self._redis = redis
        self._inbox = inbox
        self._cursors = cursors
        self._settings = settings

    async def get(self, request: Request) -> Response:
        """Tell what has become of a message.

        Raises:
            RuleBroken: when the id is none.
            Problem: 404 when it is not stored.
            PyMongoError, RedisError: in an outage.
        """
        message_id = check_id(request.path_params["id"], "id")
        found = await self._inbox.with_id(message_id)
        if not found:
            raise await self._missing(message_id)
        now = datetime.now(UTC)
        targets = tuple([await self._target(kept, now) for kept in found])
        trace = await self._trace(message_id) if any(kept.trace for kept in found) else msgspec.UNSET
        answer = MessageState(message_id, targets, trace)
        return Response(msgspec.json.encode(answer), media_type=JSON)

    async def _target(self, kept: Kept, now: datetime) -> TargetState:
        state = TargetState(
            to=kept.target,
            state="stored" if kept.expires_at > now else "expired",
            seq=kept.seq,
            stored_at=rfc3339(kept.stored_at),
            expires_at=rfc3339(kept.expires_at),
            carried=kept.carried,
        )
        if not kept.target.startswith(USER_PREFIX):
            return state
        user = kept.target.removeprefix(USER_PREFIX)
        return _with_devices(state, await self._cursors.of_user(user, kept.target, _DEVICES_MAX))

    async def _trace(self, message_id: str) -> tuple[TraceState, ...]:
        return tuple(map(_told, await read_events(self._redis, self._settings, message_id)))

    async def _missing(self, message_id: str) -> Problem:
        return Problem(
            HTTPStatus.NOT_FOUND,
            await self._dead_letter(message_id)
            or (_ENTRY_ADVICE if _ENTRY_ID.fullmatch(message_id) else "")
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


def _with_devices(state: TargetState, devices: Sequence[DeviceCursor]) -> TargetState:
    """Tell who has acknowledged, and who is yet to. A device that began behind the message is none of its own."""
    own = [device for device in devices if device.began < state.seq]
    return msgspec.structs.replace(
        state,
        acked=tuple(_device(device) for device in own if device.seq >= state.seq),
        not_acked=tuple(_device(device) for device in own if device.seq < state.seq),
    )


def _device(device: DeviceCursor) -> DeviceState:
    return DeviceState(device.device, device.seq, rfc3339(device.seen_at))


def _told(event: TraceEvent) -> TraceState:
    return msgspec.convert(describe(event), TraceState)
