"""router.api.append.lookup: in how many queries the ids of a request are looked up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from router.api.append.answers import Outcome
from router.api.append.lookup import Lookup
from router.api.append.reading import read_posted
from router.inbox import IDS_A_QUERY
from router.settings import Settings
from router.stored import Stored

pytestmark = pytest.mark.anyio


class _Inbox:
    """Holds some ids, and notes how many of them each query asks for."""

    def __init__(self, *stored: str) -> None:
        self._stored = stored
        self.asked: list[int] = []

    async def find(self, ids: Sequence[str], a_query: int = IDS_A_QUERY) -> dict[str, Stored]:
        """Return those that it holds."""
        assert len(ids) <= a_query
        self.asked.append(len(ids))
        return {one: Stored(1, 0, "", None) for one in ids if one in self._stored}


def _lookup(*stored: str) -> tuple[Lookup, _Inbox]:
    inbox = _Inbox(*stored)
    return Lookup(cast("Any", inbox)), inbox


def _named(count: int) -> list[Outcome]:
    return [Outcome(read_posted(b'{"to":"all","text":"hi"}', f"m{number}", "", Settings())) for number in range(count)]


def _ids(count: int) -> list[str]:
    return [f"all m{number}" for number in range(count)]


async def test_new_ids_are_asked_for_at_once() -> None:
    """When none of those drawn is stored, large queries follow."""
    lookup, inbox = _lookup()
    await lookup.draw(_named(1_000))
    assert inbox.asked == [IDS_A_QUERY]
    assert await lookup.find(_ids(1_000)) == {}
    assert lookup.a_query > 1_000


async def test_ids_of_a_repeated_request_are_asked_for_in_small_queries() -> None:
    """When some of those drawn are stored, many others are."""
    lookup, _ = _lookup(*_ids(1_000))
    await lookup.draw(_named(1_000))
    assert lookup.a_query == IDS_A_QUERY


async def test_a_few_ids_need_no_draw() -> None:
    """They are one small query anyway."""
    lookup, inbox = _lookup()
    await lookup.draw(_named(IDS_A_QUERY))
    assert (inbox.asked, lookup.a_query) == ([], IDS_A_QUERY)


async def test_large_query_that_finds_many_is_the_last() -> None:
    """The draw may miss what is stored: then the first large query tells."""
    stored = _ids(100)
    lookup, _ = _lookup(*stored)
    await lookup.draw([Outcome(read_posted(b'{"to":"all","text":"hi"}', f"n{n}", "", Settings())) for n in range(1_000)])
    assert set(await lookup.find(_ids(1_000))) == set(stored)
    assert lookup.a_query == IDS_A_QUERY


async def test_transient_messages_are_not_drawn() -> None:
    """They have no documents."""
    lookup, inbox = _lookup()
    item = b'{"to":"all","text":"hi","transient":true}'
    await lookup.draw([Outcome(read_posted(item, f"m{n}", "", Settings())) for n in range(1_000)])
    assert inbox.asked == [0]
