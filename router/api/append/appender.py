"""Appending what a request says: look up the ids that may be repeated, append the rest, in order.

Theory of operation. The messages are read; those whose id the client chose are looked up in MongoDB
(`router.api.append.lookup`), and are not appended when they are stored already; the others are appended, a stream at a time, in
one script each. All are looked up before any is appended: behind the first, look-ups would wait until those are stored.

Messages are read and appended a part at a time, so that a request of ten thousand neither holds the event loop for long
(collect's owners run on it) nor fills a call to Redis. The parts are few, too: whatever is awaited, the owners may take the
loop meanwhile.

Nothing is remembered between requests, so whoever got no answer, for whatever reason, sends the same again under the same ids:
what is stored meanwhile is found by the look-up, and what is only appended is appended once more and made once by collect.

What goes to one stream keeps the order of the request. So when something of it cannot be done now, the rest of it is not tried.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import chain, count
from typing import Any, Final

import anyio
import msgspec
from anyio.lowlevel import checkpoint
from pymongo.errors import PyMongoError
from redis.asyncio import Redis

import lua
from router.api.append.answers import Outcome, conflict, ids_of, note_stored, posted_of
from router.api.append.lanes import Planned, calls, intake_of, plan_entries
from router.api.append.lookup import look_up
from router.api.append.reading import Posted, read_posted
from router.api.away import away, unavailable
from router.errors import RuleBroken
from router.http.problems import Problem
from router.inbox import Inbox
from router.redis_client import OUTAGE
from router.settings import Settings

_PART: Final = 2_048
"""Items read, and appended, at once: some 15 ms of this process' time and 5 of Redis'."""

_PART_BYTES: Final = 1_048_576
"""Bytes of items in a part, passed by one of them."""

_CALLS_AT_ONCE: Final = 4
"""Calls to Redis at once, over all requests. Its connections are few, and collect's owners need theirs."""


@dataclass(slots=True)
class _Request:
    """One request on its way.

    Attributes:
        key: the value of Idempotency-Key; of an array each item has its own, with its place behind a hyphen.
        many: it is an array.
        made: what ids begin with that nobody gives.
        named: `_id` → the first message of this request that it is for, of those that the client named.
        closed: stream → why nothing more is appended to it in this request.
        away: why nothing more is appended at all: Redis is away.
    """

    key: str | None
    many: bool
    made: str = field(default_factory=lambda: secrets.token_hex(12))
    named: dict[str, Posted] = field(default_factory=dict)
    closed: dict[str, Problem] = field(default_factory=dict)
    away: Problem | None = None

    def ids(self, place: int) -> tuple[str | None, str]:
        """Return the id that the key gives the item at a place, and the one to make for it."""
        if not self.many:
            return self.key, self.made
        return (None if self.key is None else f"{self.key}-{place}"), f"{self.made}-{place}"


class Appender:
    """Appends messages for those who send them over HTTP.

    Args:
        redis: where the streams are.
        inbox: what is stored.
        settings: prefix, shards, the contract's limits and `api_in_max`.
    """

    def __init__(self, redis: Redis, inbox: Inbox, settings: Settings) -> None:
        self._inbox = inbox
        self._settings = settings
        self._script = redis.register_script(lua.source("entries_append"))
        self._line = anyio.CapacityLimiter(_CALLS_AT_ONCE)

    async def append(self, items: Sequence[msgspec.Raw], *, many: bool, key: str | None) -> list[Outcome]:
        """Append the items of a request, and return what became of each.

        Cut off, it leaves a beginning of what goes to each stream appended.

        Raises:
            Problem: 413 when they have more targets together than a request may; nothing is appended.
        """
        request = _Request(key, many)
        parts: list[list[Outcome]] = []
        async for read in self._read(request, items):
            parts.append(read)
            _check_targets(parts, self._settings.api_targets_max)
        outcomes = list(chain.from_iterable(parts))
        await self._look_up(request, [one for one in outcomes if one.posted and one.posted.named])
        for part in parts:
            await self._append(request, [one for one in part if one.undecided])
        return outcomes

    async def _read(self, request: _Request, items: Sequence[msgspec.Raw]) -> AsyncGenerator[list[Outcome]]:
        """Yield what the items say, a part at a time; between them others have the loop."""
        place = count()
        for part in _parts(items):
            yield [self._read_one(request, next(place), item) for item in part]
            await checkpoint()

    def _read_one(self, request: _Request, place: int, item: msgspec.Raw) -> Outcome:
        key, made = request.ids(place)
        try:
            return Outcome(read_posted(bytes(item), key, made, self._settings))
        except RuleBroken as exc:
            return Outcome(problem=exc)

    async def _look_up(self, request: _Request, named: Sequence[Outcome]) -> None:
        """Settle what is stored already, and what has an id of something else."""
        wanted = [(one, outcome) for outcome in named for one in ids_of(outcome)]
        try:
            await _find(self._inbox, wanted)
        except PyMongoError as exc:
            unknown = away(exc)
            for outcome in named:
                request.closed.setdefault(intake_of(posted_of(outcome), self._settings), unknown)
        for one, outcome in wanted:
            if outcome.undecided:
                posted = posted_of(outcome)
                first = request.named.setdefault(one, posted)
                if first is not posted and first.content != posted.content:
                    outcome.problem = conflict()

    async def _append(self, request: _Request, outcomes: Sequence[Outcome]) -> None:
        for stream, planned in plan_entries(outcomes, self._settings).items():
            for some in calls(planned):
                await self._append_to(request, stream, some)

    async def _append_to(self, request: _Request, stream: str, planned: Sequence[Planned]) -> None:
        if request.away is None and stream not in request.closed:
            try:
                with anyio.fail_after(self._settings.redis_timeout_s):
                    answer = await self._call(stream, planned)
            except OUTAGE as exc:
                request.away = away(exc)
            else:
                _note(request, stream, planned, answer)
        if problem := request.away or request.closed.get(stream):
            for one in planned:
                one.outcome.problem = problem

    async def _call(self, stream: str, planned: Sequence[Planned]) -> list[bytes] | int:
        args: list[Any] = [self._settings.api_in_max]
        for one in planned:
            args += (2 * len(one.fields), *chain.from_iterable(one.fields))
        async with self._line:
            answer: list[bytes] | int = await self._script(keys=[stream], args=args)
        return answer


def _check_targets(parts: Sequence[Sequence[Outcome]], most: int) -> None:
    count = sum(len(one.posted.targets) for part in parts for one in part if one.posted)
    if count > most:
        detail = f"more than {most} targets in one request (api_targets_max): send it in several"
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, field="to")


async def _find(inbox: Inbox, wanted: Sequence[tuple[str, Outcome]]) -> None:
    """Note what is stored already, of these `_id`s and the messages that they are for."""
    stored = await look_up(inbox, [one for one, _ in wanted])
    for one, outcome in wanted if stored else ():
        if one in stored:
            note_stored(outcome, one, stored[one])
    for _, outcome in wanted:
        outcome.repeated = not outcome.problem and len(outcome.seqs) == len(posted_of(outcome).targets)


def _note(request: _Request, stream: str, planned: Sequence[Planned], answer: list[bytes] | int) -> None:
    """Note the entries, or that the stream is at its high-water mark."""
    if isinstance(answer, int):
        request.closed[stream] = unavailable(f"{answer} entries wait in {stream}, which is too many; try again")
        return
    for one, entry in zip(planned, answer, strict=True):
        one.outcome.note_appended(stream, entry.decode())


def _parts(items: Sequence[msgspec.Raw]) -> Iterator[Sequence[msgspec.Raw]]:
    first = size = 0
    for place, item in enumerate(items):
        if place - first == _PART or size >= _PART_BYTES:
            yield items[first:place]
            first, size = place, 0
        size += len(item)
    yield items[first:]
