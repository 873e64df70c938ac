"""edge.standing: many users share a query, and nobody is told what is older than the last notice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio
import pytest
from pymongo.errors import AutoReconnect

from edge.standing import USERS_A_QUERY, Standing
from router.ops import Health
from router.outage import Outages
from router.settings import Settings

pytestmark = pytest.mark.anyio

QUICK: Final = Settings(backoff_min_ms=1, backoff_max_ms=2)


class Holder:
    """Keeps what a session is told."""

    def __init__(self) -> None:
        self.told: list[list[str]] = []
        self.over: list[str] = []

    def standing(self, topics: Sequence[str]) -> None:
        """Keep it."""
        self.told.append(list(topics))

    def ended(self, topic: str) -> None:
        """Keep it."""
        self.over.append(topic)


class Table:
    """Who is here."""

    def __init__(self) -> None:
        self.holders: dict[str, list[Holder]] = {}

    @property
    def users(self) -> Collection[str]:
        """All."""
        return self.holders.keys()

    def of_user(self, user: str) -> list[Holder]:
        """Those of a user."""
        return list(self.holders.get(user, ()))

    def add(self, user: str) -> Holder:
        """Have a session more."""
        self.holders.setdefault(user, []).append(Holder())
        return self.holders[user][-1]


class Store:
    """Answers when the test lets it, with what stood when it was asked; or fails."""

    def __init__(self) -> None:
        self.topics: dict[str, list[str]] = {}
        self.queries: list[list[str]] = []
        self.failures = 0
        self.in_use = True
        self.asked = 0
        self.may = anyio.Semaphore(0)

    async def has_any(self) -> bool:
        """Answer at once, unless it fails."""
        self.asked += 1
        if self.failures:
            self.failures -= 1
            raise AutoReconnect
        return self.in_use

    async def topics_of_many(self, users: Collection[str]) -> Mapping[str, Sequence[str]]:
        """Look now, answer later."""
        self.queries.append(list(users))
        answer = {user: self.topics[user] for user in users if user in self.topics}
        await self.may.acquire()
        if self.failures:
            self.failures -= 1
            raise AutoReconnect
        return answer


@asynccontextmanager
async def running(table: Table, store: Store) -> AsyncIterator[Standing]:
    """Run it."""
    standing = Standing(store, table, anyio.CapacityLimiter(1), Outages(Health(), QUICK))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(standing.run)
        yield standing
        tasks.cancel_scope.cancel()


async def queried(store: Store, count: int) -> None:
    """Return when so many queries were asked."""
    with anyio.fail_after(10):
        while len(store.queries) < count:  # noqa: ASYNC110 - asked from within a loop that knows nothing of tests
            await anyio.sleep(0.001)


async def answered(holder: Holder, count: int) -> list[list[str]]:
    """Return what a session was told, as soon as that is so much."""
    with anyio.fail_after(10):
        while len(holder.told) < count:  # noqa: ASYNC110 - told from within a loop that knows nothing of tests
            await anyio.sleep(0.001)
    return holder.told


async def test_users_share_a_query() -> None:
    """Up to so many; each session of each is told, those without any topics too, and nobody is asked for twice."""
    table, store = Table(), Store()
    store.topics = {"alice": ["news"]}
    alice, other, *_ = [table.add(user) for user in ("alice", "alice", *(f"u{n}" for n in range(USERS_A_QUERY)))]
    last = table.of_user(f"u{USERS_A_QUERY - 1}")[0]
    async with running(table, store) as standing:
        for user in ["alice", *table.users]:
            standing.look(user)
        for _ in range(2):
            store.may.release()
        assert await answered(last, 1) == [[]]
    assert [len(users) for users in store.queries] == [USERS_A_QUERY, 1]
    assert alice.told == other.told == [["news"]]


async def test_a_notice_has_the_query_under_way_go_for_nothing() -> None:
    """The user is asked for again; everybody else is told."""
    table, store = Table(), Store()
    alice, bob = table.add("alice"), table.add("bob")
    async with running(table, store) as standing:
        standing.look("alice")
        standing.look("bob")
        await queried(store, 1)
        store.topics = {"alice": ["news"]}
        standing.hear_changed(b'{"user":"alice"}')
        standing.hear_changed(b'{"user":"nobody here"}')
        store.may.release()
        store.may.release()
        assert await answered(alice, 1) == [["news"]]
        assert bob.told == [[]]
    assert store.queries == [["alice", "bob"], ["alice"]]


async def test_a_topic_ends_at_once() -> None:
    """In all sessions of the user; what a query under way says of it is older."""
    table, store = Table(), Store()
    store.topics = {"alice": ["news"]}
    sessions = [table.add("alice"), table.add("alice")]
    async with running(table, store) as standing:
        standing.look("alice")
        await queried(store, 1)
        store.topics = {}
        standing.hear_ended(b'{"user":"alice","topic":"news"}')
        assert [session.over for session in sessions] == [["news"], ["news"]]
        standing.hear_ended(b'{"user":"nobody here","topic":"news"}')
        store.may.release()
        store.may.release()
        assert await answered(sessions[0], 1) == [[]]
    assert store.queries == [["alice"], ["alice"]]


async def test_a_session_that_comes_meanwhile_is_told_twice() -> None:
    """The answer under way is as good for it as for the others, and another one follows: nobody is kept waiting."""
    table, store = Table(), Store()
    first = table.add("alice")
    async with running(table, store) as standing:
        standing.look("alice")
        await queried(store, 1)
        second = table.add("alice")
        standing.look("alice")
        store.may.release()
        store.may.release()
        assert len(await answered(first, 2)) == len(await answered(second, 2))


async def test_who_has_left_is_not_told_what_was_asked_before() -> None:
    """Nobody may have told the edge of a change in between."""
    table, store = Table(), Store()
    store.topics = {"alice": ["news"]}
    table.add("alice")
    async with running(table, store) as standing:
        standing.look("alice")
        await queried(store, 1)
        del table.holders["alice"]
        standing.withdraw("alice")
        store.topics = {}
        again = table.add("alice")
        standing.look("alice")
        standing.look("bob")
        standing.withdraw("bob")
        store.may.release()
        store.may.release()
        assert await answered(again, 1) == [[]]
    assert store.queries == [["alice"], ["alice"]]


async def test_an_outage_is_lived_through() -> None:
    """Whoever is still there is asked for until there is an answer."""
    table, store = Table(), Store()
    store.topics = {"alice": ["news"]}
    alice = table.add("alice")
    table.add("bob")
    async with running(table, store) as standing:
        standing.look("alice")
        standing.look("bob")
        await queried(store, 1)
        del table.holders["bob"]
        standing.withdraw("bob")
        store.failures = 3
        for _ in range(4):
            store.may.release()
        assert await answered(alice, 1) == [["news"]]
    assert store.queries == [["alice", "bob"], ["alice"], ["alice"], ["alice"]]


async def test_where_nothing_stands_for_anybody() -> None:
    """One question for all who wait, however many, and again for those who come later; nobody is looked up before."""
    table, store = Table(), Store()
    store.in_use, store.failures = False, 1
    users = [f"u{n}" for n in range(USERS_A_QUERY + 10)]
    holders = [table.add(user) for user in users]
    async with running(table, store) as standing:
        for user in users:
            standing.look(user)
        assert await answered(holders[-1], 1) == [[]]
        assert (store.asked, store.queries) == (2, [])
        store.in_use, store.topics = True, {"u7": ["news"]}
        standing.look_at_all()
        store.may.release()
        store.may.release()
        assert await answered(holders[7], 2) == [[], ["news"]]
        assert await answered(holders[-1], 2) == [[], []]
        standing.look("u7")
        store.may.release()
        await answered(holders[7], 3)
    assert (store.asked, [len(query) for query in store.queries]) == (3, [USERS_A_QUERY, 10, 1])


async def test_a_notice_waits_for_no_company() -> None:
    """Though those who come do."""
    table, store = Table(), Store()
    alice, bob = table.add("alice"), table.add("bob")
    for _ in range(3):
        store.may.release()
    async with running(table, store) as standing:
        standing.look("alice")
        await answered(alice, 1)
        standing.look("bob")
        standing.hear_changed(b'{"user":"alice"}')
        await answered(alice, 2)
        assert bob.told == [[]]
    assert store.queries == [["alice"], ["bob", "alice"]]


async def test_all_are_asked_for_after_a_loss() -> None:
    """Notices may have been missed; what is under way goes for nothing."""
    table, store = Table(), Store()
    alice = table.add("alice")
    table.add("bob")
    async with running(table, store) as standing:
        standing.look("alice")
        await queried(store, 1)
        standing.look_at_all()
        store.may.release()
        store.may.release()
        assert await answered(alice, 1) == [[]]
    assert store.queries == [["alice"], ["alice", "bob"]]


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"user":7}', b'{"topic":"news"}', b"\xff"])
async def test_a_line_of_another_shape_is_refused(payload: bytes) -> None:
    """Delivery logs it, and goes on."""
    standing = Standing(Store(), Table(), anyio.CapacityLimiter(1), Outages(Health(), QUICK))
    for hear in (standing.hear_changed, standing.hear_ended):
        with pytest.raises(ValueError, match=r".*"):
            hear(payload)
