"""router.api.append.lookup: in how many queries the ids of a request are looked up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from pymongo.errors import AutoReconnect

from router.api.append.lookup import look_up
from router.inbox import IDS_A_QUERY, Inbox
from router.stored import Stored

pytestmark = pytest.mark.anyio


class _Inbox:
    """Holds some ids, and notes how many of them each query asks for; in an outage it answers the first alone.

    A large query of which it holds more than `few` takes it too long.
    """

    def __init__(self, *stored: str, few: int = 10, outage: bool = False) -> None:
        self._stored = set(stored)
        self._few = few
        self._outage = outage
        self.asked: list[int] = []

    async def find(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Return those that it holds."""
        sizes = [len(ids[first : first + IDS_A_QUERY]) for first in range(0, len(ids), IDS_A_QUERY)]
        return self._answer(ids, sizes)

    async def find_among_new(self, ids: Sequence[str]) -> dict[str, Stored] | None:
        """Return those that it holds, if they are few."""
        found = self._answer(ids, [len(ids)])
        return found if len(found) <= self._few else None

    def _answer(self, ids: Sequence[str], sizes: Sequence[int]) -> dict[str, Stored]:
        if self._outage and self.asked:
            raise AutoReconnect("away")
        self.asked += sizes
        return {one: Stored(1, 0, "", None) for one in ids if one in self._stored}


async def _look_up(inbox: _Inbox, ids: Sequence[str]) -> dict[str, Stored]:
    return await look_up(cast(Inbox, cast(Any, inbox)), ids)


def _ids(count: int) -> list[str]:
    return [f"all m{number}" for number in range(count)]


async def test_new_ids_are_asked_for_in_large_queries() -> None:
    """Once, all of them."""
    inbox = _Inbox()
    assert await _look_up(inbox, _ids(10_001)) == {}
    assert inbox.asked == [5_000, 5_000, 1]


async def test_ids_of_a_repeated_request_are_asked_for_in_small_queries() -> None:
    """When a large query has taken too long."""
    inbox = _Inbox(*_ids(1_000))
    assert set(await _look_up(inbox, _ids(1_000))) == set(_ids(1_000))
    assert inbox.asked[0] == 1_000
    assert max(inbox.asked[1:]) == IDS_A_QUERY


async def test_only_what_was_cut_off_is_asked_for_again() -> None:
    """What another large query has answered is not."""
    inbox = _Inbox(*_ids(1_000))
    assert set(await _look_up(inbox, _ids(10_000))) == set(_ids(1_000))
    assert sum(inbox.asked) == 10_000 + 5_000


async def test_a_few_ids_are_one_small_query() -> None:
    """Whatever is stored of them; none are none."""
    inbox = _Inbox(*_ids(IDS_A_QUERY))
    assert set(await _look_up(inbox, _ids(IDS_A_QUERY))) == set(_ids(IDS_A_QUERY))
    assert inbox.asked == [IDS_A_QUERY]
    assert await _look_up(_Inbox(), []) == {}


async def test_one_that_is_stored_is_found_among_many_new() -> None:
    """It is found in the large query."""
    assert set(await _look_up(_Inbox("all m2999"), _ids(3_000))) == {"all m2999"}


async def test_an_outage_in_the_middle() -> None:
    """It is the driver's own error that comes out."""
    with pytest.raises(AutoReconnect):
        await _look_up(_Inbox(outage=True), _ids(10_000))
