"""Dead letters: what stands in `push:{s}:dead`, whether an entry would die again, and giving it another try.

A letter is the entry as it was (lua/bury.lua), behind `reason`, `source` and `entry`. To retry it is to append it once more, so
it comes behind all that was sent since, and its ttl counts anew. An entry of `in` without an `id` gets the one that collect had
made for it: where a target has the message already (an entry dies as a whole, though only one of its targets may be at fault),
that target does not get it twice.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import Any, Final

from redis.asyncio import Redis

import lua
from router.collect.entries import Entry, Message, made_id, read_message
from router.errors import RuleBroken
from router.keys import Keys
from router.settings import Settings

SOURCES: Final = ("in", "out", "fast")

Fields = tuple[tuple[bytes, bytes], ...]

_HEAD: Final = (b"reason", b"source", b"entry")
_MAX_VALUES: Final = 7_000
"""An entry of more is kept as one JSON array: see lua/bury.lua."""

_PAGE: Final = 100
_STREAM_ID: Final = re.compile(r"(?:(\d+)/)?(\d+-\d+)")
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
_LINE: Final = re.compile(rb"(?:user:\S+|topic:\S+|all) \S+ \S+ \S+ \{.*\}")


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter.

    Attributes:
        shard: whose `dead` it stands in.
        id: its id there, which begins with when it died, Unix ms.
        reason: why it died, in words.
        source: `in`, `out` or `fast`; another text where nobody of ours wrote it.
        entry: its id in the source, or "".
        fields: the entry's own, in order; a name may repeat.
    """

    shard: int
    id: str
    reason: str
    source: str
    entry: str
    fields: Fields

    @property
    def died_ms(self) -> int:
        """When it died, Unix ms by Redis' clock."""
        return int(self.id.partition("-")[0])

    def value(self, name: str) -> str:
        """Return the first value of a field for people, or ""."""
        found = next((value for own, value in self.fields if own == name.encode()), b"")
        return found.decode(errors="backslashreplace")


def read_letter(shard: int, letter_id: str, flat: Sequence[bytes]) -> Letter:
    """Return the letter that an entry of `dead` is, given its fields and values in turn."""
    pairs = tuple(zip(flat[::2], flat[1::2], strict=True))
    head: dict[bytes, bytes] = {}
    # The entry may have fields of these names, too: only the first of each is the letter's.
    while len(head) < len(pairs) and (name := pairs[len(head)][0]) in _HEAD and name not in head:
        head[name] = pairs[len(head)][1]
    told = {name: head.get(name, b"").decode(errors="backslashreplace") for name in _HEAD}
    source = told[b"source"].rpartition(":")[2]
    return Letter(shard, letter_id, told[b"reason"], source, told[b"entry"], _unpacked(pairs[len(head) :]))


def _unpacked(fields: Fields) -> Fields:
    """Return the fields of an entry that was kept as one JSON array; any other's as they are."""
    if len(fields) != 1 or fields[0][0] != b"fields":
        return fields
    try:
        # What was encoded were bytes: in Latin-1 each is one character, whatever it means.
        values = json.loads(fields[0][1].decode("latin-1"))
        flat = [value.encode("latin-1") for value in values]
    except (ValueError, AttributeError, TypeError, RecursionError):
        return fields
    return tuple(zip(flat[::2], flat[1::2], strict=True)) if len(flat) > _MAX_VALUES and len(flat) % 2 == 0 else fields


def name_of(letter: Letter, shards: int) -> str:
    """Return what a person calls a letter: its id, behind the shard where there are several."""
    return letter.id if shards == 1 else f"{letter.shard}/{letter.id}"


def mended(fields: Fields, changes: Mapping[bytes, bytes]) -> Fields:
    """Return the fields with some set, in place of whatever they held; those set to nothing are left out."""
    kept = tuple(pair for pair in fields if pair[0] not in changes)
    return kept + tuple((name, value) for name, value in changes.items() if value)


def fields_to_append(letter: Letter, changes: Mapping[bytes, bytes]) -> Fields:
    """Return what a retry appends: the entry's fields, mended, with the id that collect had made for it."""
    fields = mended(letter.fields, changes)
    if letter.source != "in" or not letter.entry or any(name == b"id" for name, _ in fields):
        return fields
    return (*fields, (b"id", made_id(Entry.of(letter.entry, letter.fields), letter.shard).encode()))


def can_be_appended(letter: Letter, fields: Fields) -> bool:
    """Tell whether `retry` can do it at all, whatever becomes of the entry then."""
    return letter.source in SOURCES and 0 < 2 * len(fields) <= _MAX_VALUES


def why_dead_again(letter: Letter, fields: Fields, settings: Settings) -> str | None:
    """Return which rule these fields would break where the letter came from; None when they break none."""
    if 2 * len(fields) > _MAX_VALUES:
        return f"it has {len(fields)} fields"
    if letter.source == "out":
        whole = len(fields) == 1 and fields[0][0] == b"line" and _LINE.fullmatch(fields[0][1])
        return None if whole else "it is not a payload line"
    if letter.source not in SOURCES:
        return f"its source is {letter.source!r}, not one of {', '.join(SOURCES)}"
    now_ms = time.time_ns() // 1_000_000
    try:
        message = read_message(Entry.of(f"{now_ms}-0", fields), letter.shard, now_ms, settings)
    except RuleBroken as exc:
        return str(exc)
    return _why_not_fast(message, fields) if letter.source == "fast" else None


def _why_not_fast(message: Message, fields: Fields) -> str | None:
    """Return which rule of the fast lane alone is broken."""
    if len(message.targets) > 1:
        return "to: the fast lane takes one target"
    if any(name == b"body" and _CONTROL.search(value) for name, value in fields):
        return "body: the fast lane takes no control character, not even between the parts of the JSON"
    return None


class DeadLetters:
    """The dead letters of all shards.

    Args:
        redis: a client that reads streams for nothing else: from now on their entries come as they are, with names that repeat.
        settings: prefix and shards.
    """

    def __init__(self, redis: Redis, settings: Settings) -> None:
        for command in ("XRANGE", "XREVRANGE"):
            redis.set_response_callback(command, _as_it_came)
        self._redis: Any = redis
        self._settings = settings
        self._keys = [Keys(settings.prefix, shard) for shard in range(settings.shards)]
        self._retry = redis.register_script(lua.source("retry"))

    async def count(self) -> int:
        """Return how many there are.

        Raises:
            RedisError: when Redis is away; so do all below.
        """
        return sum([await self._redis.xlen(keys.dead()) for keys in self._keys])

    async def newest(self, most: int, since_ms: int = 0, source: str | None = None) -> list[Letter]:
        """Return the newest `most` that died since then, of one source or any, the newest first."""
        found: list[Letter] = []
        for keys in self._keys:
            found += [letter async for letter in self._newest_of(keys, most, since_ms, source)]
        return nlargest(most, found, key=lambda letter: (letter.died_ms, letter.id))

    async def _newest_of(self, keys: Keys, most: int, since_ms: int, source: str | None) -> AsyncIterator[Letter]:
        before, left = "+", most
        while left > 0:
            page = await self._page("XREVRANGE", keys, before, str(since_ms))
            for letter in page:
                if left > 0 and source in {None, letter.source}:
                    left -= 1
                    yield letter
            if len(page) < _PAGE:
                return
            before = f"({page[-1].id}"

    async def all_now(self, source: str | None = None) -> AsyncIterator[Letter]:
        """Yield those that are there now, of one source or any, a shard after the other, the oldest first.

        What dies meanwhile is left out, so that a letter which dies again does not come again.
        """
        for keys in self._keys:
            after, last = "-", await self._page("XREVRANGE", keys, "+", "-", 1)
            while last:
                page = await self._page("XRANGE", keys, after, last[0].id)
                for letter in page:
                    if source in {None, letter.source}:
                        yield letter
                if len(page) < _PAGE:
                    break
                after = f"({page[-1].id}"

    async def find(self, name: str) -> Letter | None:
        """Return the letter of this name, if it is there.

        Raises:
            RuleBroken: when no letter can have that name.
        """
        match = _STREAM_ID.fullmatch(name)
        shard = int(match[1] or 0) if match else 0
        if match is None or shard >= len(self._keys) or (match[1] is None and len(self._keys) > 1):
            shape = (
                "1732262400999-0" if len(self._keys) == 1 else f"0/1732262400999-0, the shard (below {len(self._keys)}) first"
            )
            raise RuleBroken("ID", f"{name!r} is not the id of a dead letter, which is like {shape}")
        page = await self._page("XRANGE", self._keys[shard], match[2], match[2], 1)
        return page[0] if page else None

    async def retry(self, letter: Letter, fields: Fields) -> str | None:
        """Append these fields where the letter came from, in its place, and return the entry's id; None when it is gone."""
        keys = self._keys[letter.shard]
        stream = f"{keys.base}{letter.source}"
        flat = [part for pair in fields for part in pair]
        entry: bytes = await self._retry(keys=[keys.dead(), stream], args=[letter.id, *flat])
        return entry.decode() or None

    async def drop(self, letter: Letter) -> bool:
        """Remove a letter for good; tell whether it was there."""
        return bool(await self._redis.xdel(self._keys[letter.shard].dead(), letter.id))

    async def _page(self, command: str, keys: Keys, start: str, end: str, most: int = _PAGE) -> list[Letter]:
        reply = await self._redis.execute_command(command, keys.dead(), start, end, "COUNT", most)
        return [read_letter(keys.shard, letter_id.decode(), flat) for letter_id, flat in reply]


def _as_it_came(response: Any, **_: Any) -> Any:  # noqa: ANN401 - the driver's signature
    return response
