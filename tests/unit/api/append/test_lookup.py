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
    """Holds some ids, and notes how many of them each query asks for; in an outage it answers the first alone."""

    def __init__(self, *stored: str, outage: bool = False) -> None:
        self._stored = stored
        self._outage = outage
        self.asked: list[int] = []

    async def find(self, ids: Sequence[str], a_query: int = IDS_A_QUERY) -> dict[str, Stored]:
        """Return those that it holds."""
        if self._outage and self.asked:
            raise AutoReconnect("away")
        self.asked += [len(ids[first : first + a_query]) for first in range(0, len(ids), a_query)]
        return {one: Stored(1, 0, "", None) for one in ids if one in self._stored}


async def _look_up(inbox: _Inbox, ids: Sequence[str]) -> dict[str, Stored]:
    return await look_up(cast(Inbox, cast(Any, inbox)), ids)


def _ids(count: int) -> list[str]:
    return [f"all m{number}" for number in range(count)]


async def test_new_ids_are_asked_for_in_large_queries() -> None:
    """When none of those drawn is stored."""
    inbox = _Inbox()
    assert await _look_up(inbox, _ids(3_000)) == {}
    assert inbox.asked == [IDS_A_QUERY, 2_048, 952]


async def test_ids_of_a_repeated_request_are_asked_for_in_small_queries() -> None:
    """When some of those drawn are stored, many others are."""
    inbox = _Inbox(*_ids(1_000))
    assert set(await _look_up(inbox, _ids(1_000))) == set(_ids(1_000))
    assert max(inbox.asked) == IDS_A_QUERY


async def test_a_few_ids_need_no_draw() -> None:
    """They are one small query anyway; none are none."""
    inbox = _Inbox("all m3")
    assert set(await _look_up(inbox, _ids(IDS_A_QUERY))) == {"all m3"}
    assert inbox.asked == [IDS_A_QUERY]
    assert await _look_up(_Inbox(), []) == {}


async def test_one_that_is_stored_is_found_among_many_new() -> None:
    """Whether it is drawn or not."""
    assert set(await _look_up(_Inbox("all m2999"), _ids(3_000))) == {"all m2999"}


async def test_an_outage_in_the_middle() -> None:
    """It is the driver's own error that comes out."""
    with pytest.raises(AutoReconnect):
        await _look_up(_Inbox(outage=True), _ids(5_000))
