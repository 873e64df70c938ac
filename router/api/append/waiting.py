"""Waiting until what was appended is stored, for `Prefer: wait`.

Collect stores a stream's messages in its order, so it is enough to look at the first that are missing: of ten thousand messages
one query is asked a look, and the rest only when those are there. A message that will never be there is found among the dead
letters that have come since it was appended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import Any, Final

import anyio
from pymongo.errors import PyMongoError
from redis.asyncio import Redis

from router.api.append.answers import Outcome, note_stored, posted_of
from router.http.problems import Problem
from router.inbox import IDS_A_QUERY, Inbox
from router.keys import Keys
from router.redis_client import OUTAGE
from router.retry import Backoff
from router.settings import Settings
from router.shards import shard_of_target

_PAUSE_MIN_MS: Final = 10
"""Longest pause before the first look. Storing takes some milliseconds when collect has nothing else to do."""

_PAUSE_MAX_MS: Final = 250
"""Longest pause between two looks. Whoever waits this long already does not mind a little more, and the looks add up."""

_LETTERS: Final = 100
"""Dead letters of a shard that are read at once; each may be as long as a message."""


_CALLS_AT_ONCE: Final = 2
"""Calls to Redis at once, and queries of MongoDB, over all that wait. Without a bound, hundreds that wait take every connection
there is, and collect's owners, who store what is waited for, stand in line behind them."""

_Missing = dict[str, list[Outcome]]
"""`_id` → the messages that it is the document of: more than one when a request repeats itself."""


class Waiting:
    """Waits for messages to be stored.

    Args:
        redis: where dead letters are.
        inbox: what is stored.
        settings: prefix and shards.
    """

    def __init__(self, redis: Redis, inbox: Inbox, settings: Settings) -> None:
        self._redis: Any = redis  # the driver's types name the replies of every protocol at once
        self._inbox = inbox
        self._settings = settings
        self._line = anyio.CapacityLimiter(_CALLS_AT_ONCE)
        self._inbox_line = anyio.CapacityLimiter(_CALLS_AT_ONCE)

    async def wait(self, outcomes: Iterable[Outcome], wait_s: float) -> None:
        """Return when each message is stored for all of its targets, or dead, or time is over; the outcomes say which.

        An outage is waited through.
        """
        missing: _Missing = {}
        letters: dict[int, str] = {}
        for outcome in outcomes:
            if awaited := outcome.awaited:
                self._note_letters(letters, outcome)
            for target in awaited:
                missing.setdefault(f"{target} {posted_of(outcome).id}", []).append(outcome)
        pauses = Backoff(_PAUSE_MIN_MS, _PAUSE_MAX_MS)
        with anyio.move_on_after(wait_s):
            while missing:
                await anyio.sleep(pauses.next_s())
                try:
                    while await self._look(missing):
                        pauses.reset()
                    await self._look_for_dead(missing, letters)
                except (PyMongoError, *OUTAGE):
                    continue

    async def _look(self, missing: _Missing) -> bool:
        """Note the first of the missing that are stored; return whether to look for the next ones at once."""
        some = list(islice(missing, IDS_A_QUERY))
        await self._note(missing, some)
        return bool(missing) and not any(one in missing for one in some)

    async def _note(self, missing: _Missing, ids: Sequence[str]) -> None:
        async with self._inbox_line:
            found = await self._inbox.find(ids)
        for document_id, stored in found.items():
            for outcome in missing.pop(document_id):
                note_stored(outcome, document_id, stored)

    def _note_letters(self, since: dict[int, str], outcome: Outcome) -> None:
        """Note the shards whose dead letters may tell of a message → the id behind which they are to be read."""
        before = f"({int(outcome.entry.partition('-')[0]) - 1}-{2**64 - 1}"
        for target in posted_of(outcome).targets:
            since.setdefault(shard_of_target(target, self._settings.shards), before)

    async def _look_for_dead(self, missing: _Missing, letters: dict[int, str]) -> None:
        if not missing:
            return
        for shard, since in letters.items():
            key = Keys(self._settings.prefix, shard).dead()
            async with self._line:
                found = await self._redis.xrange(key, since, "+", count=_LETTERS)
            for letter_id, fields in found:
                letter = _Letter.read(f"{letter_id.decode()} of {key}", fields)
                letters[shard] = f"({letter_id.decode()}"
                if concerned := [one for one in letter.document_ids if one in missing and letter.may_be(missing[one])]:
                    await self._note_dead(missing, letter, concerned)

    async def _note_dead(self, missing: _Missing, letter: _Letter, document_ids: Sequence[str]) -> None:
        """Note that a message is dead for what its letter names, but where it was stored before: the letter comes last."""
        await self._note(missing, document_ids)
        for document_id in document_ids:
            for outcome in missing.pop(document_id, ()):
                outcome.problem = Problem(HTTPStatus.UNPROCESSABLE_ENTITY, letter.says)


@dataclass(frozen=True, slots=True)
class _Letter:
    """A dead letter.

    Attributes:
        document_ids: the `_id`s that its message was to have.
        source: the stream where it was found to be dead.
        entry: its id there.
        says: what it says, for people.
    """

    document_ids: list[str]
    source: str
    entry: str
    says: str

    @classmethod
    def read(cls, place: str, fields: dict[bytes, bytes]) -> _Letter:
        def text(name: bytes) -> str:
            return fields.get(name, b"").decode(errors="replace")

        document_ids = [f"{target} {text(b'id')}" for target in text(b"to").split(",")]
        return cls(
            document_ids, text(b"source"), text(b"entry"), f"the message became a dead letter, {place}: {text(b'reason')}"
        )

    def may_be(self, outcomes: Iterable[Outcome]) -> bool:
        """Tell whether it is one of these, not somebody else's with the same id; in another shard it has another entry."""
        return any(self.source != outcome.stream or self.entry == outcome.entry for outcome in outcomes)
