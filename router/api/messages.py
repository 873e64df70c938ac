"""GET /v1/messages/{id}: what has become of a message, for each of its targets.

MongoDB says what is stored and which devices have acknowledged; the trace stream, of a message sent with `trace 1`, what
happened on the way. An id that is not stored may be anything: the answer says what it may be, and looks among the newest dead
letters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from router.cursors import Cursors, DeviceCursor
from router.inbox import Inbox
from router.keys import Keys
from router.problems import Problem
from router.settings import Settings
from router.stored import Kept
from router.targets import USER_PREFIX, check_id
from router.trace import describe, read_events

_DEVICES_MAX: Final = 1_000
"""Most devices of a user that are told of."""

_DEAD_SCANNED_MAX: Final = 1_000
"""Newest dead letters of each shard that are looked through for an id that is not stored."""


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
        message_id = check_id(request.path_params["message_id"], "id")
        found = await self._inbox.with_id(message_id)
        if not found:
            raise await self._missing(message_id)
        now = datetime.now(UTC)
        answer: dict[str, Any] = {"id": message_id, "targets": [await self._target(kept, now) for kept in found]}
        if any(kept.trace for kept in found):
            answer["trace"] = [describe(event) for event in await read_events(self._redis, self._settings, message_id)]
        return Response(msgspec.json.encode(answer), media_type="application/json")

    async def _target(self, kept: Kept, now: datetime) -> dict[str, object]:
        answer: dict[str, object] = {
            "to": kept.target,
            "state": "stored" if kept.expires_at > now else "expired",
            "seq": kept.seq,
            "stored_at": _time(kept.stored_at),
            "expires_at": _time(kept.expires_at),
        }
        if kept.carried:
            answer["carried"] = kept.carried
        if kept.target.startswith(USER_PREFIX):
            user = kept.target.removeprefix(USER_PREFIX)
            answer |= _devices(await self._cursors.of_user(user, kept.target, _DEVICES_MAX), kept.seq)
        return answer

    async def _missing(self, message_id: str) -> Problem:
        return Problem(
            HTTPStatus.NOT_FOUND,
            await self._dead_letter(message_id)
            or f"no message of this id is stored. It was never appended, or waits in {self._settings.prefix}:{{s}}:in and is "
            "not stored yet; it was transient, which is never stored; it is a dead letter, older than those looked through "
            "here; or its retention and the time in which its id refuses a second one are over.",
        )

    async def _dead_letter(self, message_id: str) -> str:
        for shard in range(self._settings.shards):
            key = Keys(self._settings.prefix, shard).dead()
            # The driver's types name the replies of every protocol at once.
            letters: Any = await self._redis.xrevrange(key, count=_DEAD_SCANNED_MAX)
            entry = find_letter(letters, message_id.encode())
            if entry is not None:
                return f"the message is a dead letter, {entry[0]} of {key}: {entry[1]}"
        return ""


def find_letter(letters: Iterable[Any], message_id: bytes) -> tuple[str, str] | None:
    """Return the entry id of the first dead letter whose `id` is this one, and its reason."""
    for entry_id, fields in letters:
        if fields.get(b"id") == message_id:
            return entry_id.decode(), fields.get(b"reason", b"").decode(errors="replace")
    return None


def _devices(devices: Sequence[DeviceCursor], seq: int) -> dict[str, object]:
    """Tell who has acknowledged, and who is yet to. A device that began behind the message is none of its own."""
    own = [device for device in devices if device.began < seq]
    return {
        "acked": [_device(device) for device in own if device.seq >= seq],
        "not_acked": [_device(device) for device in own if device.seq < seq],
    }


def _device(device: DeviceCursor) -> dict[str, object]:
    return {"device": device.device, "cursor": device.seq, "seen_at": _time(device.seen_at)}


def _time(time: datetime) -> str:
    """Return a time as RFC 3339 has it, in UTC."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
