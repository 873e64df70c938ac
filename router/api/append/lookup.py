"""Looking up what is stored already of a request whose ids the client chose.

Almost always nothing is. To MongoDB that is all one, but the embedded store, which answers while it stores what came before,
has ways of its own: an id that is not there costs it 10 µs in however large a query, and ids that are there cost the square of
the query's size, so that two thousand take it seconds. And each query waits for its turn there, which is dearer than its ids.

So some ids are looked up first, drawn from all of the request. When none of those is stored, few of the others can be, and they
are asked for in few large queries; otherwise, and as soon as a large one has found more than a few, in many small ones.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from router.api.append.answers import Outcome, ids_of
from router.inbox import IDS_A_QUERY, Inbox
from router.stored import Stored

_NEW_A_QUERY: Final = 2_048
"""Ids in one query where hardly any is stored: 20 ms of the embedded store's time. Of a request with a twentieth that is, the
ids drawn hold none once in seven hundred times."""

_FEW: Final = 16
"""Ids that a large query may find before small ones are asked again."""

_chance: Final = random.SystemRandom()


class Lookup:
    """The look-ups of one request.

    Attributes:
        a_query: how many ids to ask for at once now.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self.a_query = IDS_A_QUERY

    async def draw(self, named: Sequence[Outcome]) -> None:
        """Find out whether the messages are new, by a few of them; small requests need no more than one small query anyway.

        Raises:
            PyMongoError: in an outage.
        """
        if len(named) <= IDS_A_QUERY:
            return
        drawn = [_chance.choice(ids) for one in _chance.sample(named, IDS_A_QUERY) if (ids := ids_of(one))]
        if not await self._inbox.find(drawn):
            self.a_query = _NEW_A_QUERY

    async def find(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Return what is stored under these `_id`s, of which there are no more than `a_query`.

        Raises:
            PyMongoError: in an outage.
        """
        stored = await self._inbox.find(ids, self.a_query)
        if len(stored) > _FEW:
            self.a_query = IDS_A_QUERY
        return stored
