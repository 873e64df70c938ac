"""edge.heads and edge.resync: everybody is told, and nobody what is not known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from pymongo.errors import AutoReconnect

from edge.heads import Heads
from edge.position import Position
from edge.resync import Resync
from router.ops import Health
from router.outage import Outages
from router.settings import Settings
from tests.unit.edge.outlets import KeptOutlet

pytestmark = pytest.mark.anyio

QUICK = Settings(backoff_min_ms=1, backoff_max_ms=2)


class FakeInbox:
    """Has the same newest of every user, as often as it does not fail; `much` names who has too much to look at."""

    def __init__(self, failures: int = 0, much: Sequence[str] = ()) -> None:
        self.failures = failures
        self.much = much
        self.queries: list[tuple[str, int]] = []
        self.batches: list[list[str]] = []
        self.at_once = self.most_at_once = 0

    async def newest_above(self, target: str, above: int) -> int:
        """Return it, but for those who never had a message."""
        self.queries.append((target, above))
        await self._answer()
        return above if target == "user:new" else 12

    async def newest_of_few(self, targets: Sequence[str]) -> dict[str, int] | None:
        """Return it of those who ever had a message."""
        self.batches.append(list(targets))
        await self._answer()
        return None if set(targets) & set(self.much) else {target: 12 for target in targets if target != "user:new"}

    async def _answer(self) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await anyio.lowlevel.checkpoint()
        self.at_once -= 1
        if self.failures:
            self.failures -= 1
            raise AutoReconnect


class Answers:
    """Keeps what is told."""

    def __init__(self) -> None:
        self.told: list[int | None] = []

    async def until(self, count: int) -> list[int | None]:
        """Return what was told, as soon as it is so many."""
        with anyio.fail_after(60):
            while len(self.told) < count:  # noqa: ASYNC110 - told from within a loop that knows nothing of tests
                await anyio.sleep(0.001)
        return self.told


async def ask(inbox: FakeInbox, *targets: str, above: int = 0) -> list[int | None]:
    """Ask for heads all at once, and return them."""
    store: Any = inbox
    heads, answers = Heads(store, anyio.CapacityLimiter(2), Outages(Health(), QUICK)), Answers()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(heads.run)
        for target in targets:
            heads.ask(target, answers.told.append, above)
        told = await answers.until(len(targets))
        tasks.cancel_scope.cancel()
    return told


async def test_two_who_ask_for_the_same_cost_one_query() -> None:
    """Both are told, and so is another, who is new and whose head is 0, by the same query."""
    inbox = FakeInbox()
    assert sorted(await ask(inbox, "user:a", "user:new", "user:a"), key=str) == [0, 12, 12]
    assert (inbox.batches, inbox.queries) == ([["user:a", "user:new"]], [])


async def test_those_who_have_much_are_asked_for_one_by_one() -> None:
    """So are those who were to be looked up with them; everybody is told."""
    inbox = FakeInbox(much=["user:b"])
    assert sorted(await ask(inbox, "user:a", "user:b", "user:new"), key=str) == [0, 12, 12]
    assert sorted(inbox.queries) == [("user:a", 0), ("user:b", 0), ("user:new", 0)]


async def test_who_asks_meanwhile_is_told_too() -> None:
    """Someone who knows a seq asks for a target while it is looked up in vain: both have it asked for from the start."""
    inbox: Any = FakeInbox(much=["user:a"])
    heads, answers = Heads(inbox, anyio.CapacityLimiter(1), Outages(Health(), QUICK)), Answers()
    heads.ask("user:a", answers.told.append)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(heads.run)
        with anyio.fail_after(60):
            while not inbox.batches:
                await anyio.lowlevel.checkpoint()
        heads.ask("user:a", answers.told.append, 9)
        assert await answers.until(2) == [12, 12]
        tasks.cancel_scope.cancel()
    assert ("user:a", 0) in inbox.queries


async def test_the_lowest_known_seq_is_asked_above() -> None:
    """Whoever knows less than another about a target is answered as well."""
    inbox: Any = FakeInbox()
    heads, answers = Heads(inbox, anyio.CapacityLimiter(1), Outages(Health(), QUICK)), Answers()
    heads.ask("user:a", answers.told.append, 9)
    heads.ask("user:a", answers.told.append, 5)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(heads.run)
        assert await answers.until(2) == [12, 12]
        tasks.cancel_scope.cancel()
    assert inbox.queries == [("user:a", 5)]


async def test_queries_at_once_are_bounded() -> None:
    """A thousand who ask wait in line, whether they know a seq or none; of the latter many are looked up at once."""
    knowing, new = FakeInbox(), FakeInbox()
    await ask(knowing, *(f"user:{n}" for n in range(1_000)), above=1)
    assert (len(knowing.queries), knowing.most_at_once) == (1_000, 2)
    await ask(new, *(f"user:{n}" for n in range(1_000)))
    assert (len(new.batches), new.most_at_once) == (16, 1)


async def test_what_cannot_be_told_is_said_so() -> None:
    """In an outage who asked is told so, and may ask again."""
    assert await ask(FakeInbox(failures=1), "user:a") == [None]
    assert await ask(FakeInbox(failures=1), "user:a", above=1) == [None]


async def test_resync_asks_until_it_knows() -> None:
    """A session whose head nobody can tell just now is not left behind: it is asked for again, and only then compared."""
    position = Position(KeptOutlet(), "user:a", 1_000)
    position.start(10)
    behind: list[Position] = []
    inbox: Any = FakeInbox(failures=2)
    heads = Heads(inbox, anyio.CapacityLimiter(1), Outages(Health(), QUICK))
    resync = Resync(lambda user: [position] if user == "a" else [], heads.ask, behind.append)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(heads.run)
        resync.check("a", None)
        resync.check("gone", None)
        with anyio.fail_after(60):
            while not behind:  # noqa: ASYNC110 - as above
                await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
    assert (behind, position.goal) == ([position], 12)
    assert inbox.queries == [("user:a", 10)] * 3
