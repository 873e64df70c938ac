"""Looking up what is stored already of a request whose ids the client chose.

Almost always nothing is. To MongoDB that is all one, but the embedded store has ways of its own: an id that is not there costs
it 10 µs in however large a query, and ids that are there cost the square of their number in a query, so that two thousand
take it seconds. And it is one Python process: while one of its threads stores, the others wait for the interpreter's lock (the
GIL), so a query that comes meanwhile takes many times as long, and several take that together.

So a request is looked up in as few queries as may be, which go out together and wait together. One that meets too much that is
stored is cut off by the store, and its ids are asked for in many small ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio
from pymongo.errors import PyMongoError

from router.inbox import IDS_A_QUERY, Inbox
from router.stored import Stored

_NEW_A_QUERY: Final = 5_000
"""Ids in a query where hardly any is stored: 70 ms of the embedded store's time, and 5 MB where ids are as long as may be."""


async def look_up(inbox: Inbox, ids: Sequence[str]) -> dict[str, Stored]:
    """Return what is stored under these `_id`s.

    Raises:
        PyMongoError: in an outage.
    """
    stored: dict[str, Stored] = {}

    async def ask(some: Sequence[str]) -> None:
        stored.update(await _ask(inbox, some))

    try:
        async with anyio.create_task_group() as tasks:
            for first in range(0, len(ids), _NEW_A_QUERY):
                tasks.start_soon(ask, ids[first : first + _NEW_A_QUERY])
    except* PyMongoError as problems:
        raise _first(problems) from None
    return stored


async def _ask(inbox: Inbox, ids: Sequence[str]) -> dict[str, Stored]:
    found = await inbox.find_among_new(ids) if len(ids) > IDS_A_QUERY else None
    return await inbox.find(ids) if found is None else found


def _first(problems: BaseExceptionGroup[PyMongoError]) -> PyMongoError:
    found = problems.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
