"""Looking up what is stored already of a request whose ids the client chose.

Almost always nothing is. To MongoDB that is all one, but the embedded store, which answers while it stores what came before,
has ways of its own: an id that is not there costs it 10 µs in however large a query, and ids that are there cost the square of
their number in a query, so that two thousand take it seconds. And each query waits there until what is being stored is.

So some ids are looked up first, drawn from all of the request. When none of those is stored, few of the others can be: they are
asked for in a few large queries, all at once, so that they wait together. Otherwise it is many small ones.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import anyio
from pymongo.errors import PyMongoError

from router.inbox import IDS_A_QUERY, Inbox
from router.stored import Stored

_NEW_A_QUERY: Final = 2_048
"""Ids in one query where hardly any is stored: 20 ms of the embedded store's time. Of a request with a twentieth that is, the
ids drawn hold none once in seven hundred times, and then a large query takes it some 10 ms more."""

_chance: Final = random.SystemRandom()


async def look_up(inbox: Inbox, ids: Sequence[str]) -> dict[str, Stored]:
    """Return what is stored under these `_id`s.

    Raises:
        PyMongoError: in an outage.
    """
    if len(ids) <= IDS_A_QUERY or await inbox.find(_chance.sample(ids, IDS_A_QUERY)):
        return await inbox.find(ids)
    return await _look_up_new(inbox, ids)


async def _look_up_new(inbox: Inbox, ids: Sequence[str]) -> dict[str, Stored]:
    stored: dict[str, Stored] = {}

    async def ask(some: Sequence[str]) -> None:
        stored.update(await inbox.find(some, _NEW_A_QUERY))

    try:
        async with anyio.create_task_group() as tasks:
            for first in range(0, len(ids), _NEW_A_QUERY):
                tasks.start_soon(ask, ids[first : first + _NEW_A_QUERY])
    except* PyMongoError as problems:
        raise _first(problems) from None
    return stored


def _first(problems: BaseExceptionGroup[PyMongoError]) -> PyMongoError:
    found = problems.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
