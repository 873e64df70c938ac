"""To which streams a message goes, and as which entries. Pure.

A durable one is one entry of `in`, in the shard of its first target, as the client wrote it. A transient one goes past collect:
an entry of `fast` for each of its targets, in that target's own shard. There the rules are stricter by what dispatch.lua can
know of a body: no control character stands in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Final, NamedTuple

from router.api.append.answers import Outcome, posted_of
from router.api.append.reading import Posted
from router.keys import Keys
from router.settings import Settings
from router.shards import shard_of_target

Fields = list[tuple[bytes, bytes]]

_BODY: Final = '"body":'

_CALL_MAX: Final = 2_048
_CALL_BYTES: Final = 1_048_576
"""Entries in one call to Redis, some 5 ms of its time, and bytes of values, passed by one of them."""


class Planned(NamedTuple):
    """An entry that is to be appended."""

    outcome: Outcome
    fields: Fields


def plan_entries(outcomes: Sequence[Outcome], settings: Settings) -> dict[str, list[Planned]]:
    """Return stream → what is to be appended to it, in the order of the messages."""
    planned: dict[str, list[Planned]] = {}
    for outcome in outcomes:
        for stream, fields in _entries(posted_of(outcome), settings):
            planned.setdefault(stream, []).append(Planned(outcome, fields))
    return planned


def intake_of(posted: Posted, settings: Settings) -> str:
    """Return the stream of a message that collect is to take."""
    return _streams(posted.targets[0], settings)[0]


def calls(planned: Sequence[Planned]) -> Iterator[Sequence[Planned]]:
    """Yield what is to be appended to a stream, a call at a time."""
    first = size = 0
    for place, one in enumerate(planned):
        if place - first == _CALL_MAX or size >= _CALL_BYTES:
            yield planned[first:place]
            first, size = place, 0
        size += sum(map(len, chain.from_iterable(one.fields)))
    yield planned[first:]


def _streams(target: str, settings: Settings) -> tuple[str, str]:
    return _streams_of(settings.prefix, shard_of_target(target, settings.shards) if settings.shards > 1 else 0)


@cache
def _streams_of(prefix: str, shard: int) -> tuple[str, str]:
    """Return a shard's `in` and `fast`."""
    keys = Keys(prefix, shard)
    return keys.intake(), keys.fast()


def _entries(posted: Posted, settings: Settings) -> Iterator[tuple[str, Fields]]:
    fields = _fast_fields(posted, settings.body_max_bytes) if posted.transient else None
    if fields is None:
        yield intake_of(posted, settings), posted.fields
        return
    for target in posted.targets:
        yield _streams(target, settings)[1], [(b"to", target.encode()), *fields]


def _fast_fields(posted: Posted, body_max_bytes: int) -> Fields | None:
    """Return a transient message's fields for `fast` but for its target; None where its body does not fit in there."""
    fields = [(name, value) for name, value in posted.fields if name not in {b"to", b"body"}]
    content = posted.content
    if content.startswith(_BODY):
        # Minified it has no control character but, in a string, the one that JSON lets stand there as it is.
        body = content.removeprefix(_BODY).replace("\x7f", "\\u007f").encode()
        if len(body) > body_max_bytes:
            return None
        fields.append((b"body", body))
    return fields
