"""edge.catch_up: whoever is behind gets all of it, in order and once, and nobody waits for anybody."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from prometheus_client import REGISTRY
from pymongo.errors import AutoReconnect

from edge.catch_up import CatchUp
from edge.frames import CaughtUp, encode, text_frame
from edge.heads import READERS
from edge.position import Position, Verdict
from edge.replays import AGE_S
from edge.stride import PAGE_MAX, PAGE_MIN, PAGE_S
from edge.tracing import Tracing
from router.collapse import Ahead
from router.ops import Health
from router.outage import Outages
from router.settings import Settings
from router.stored import Page, Traced
from router.targets import ALL
from tests.unit.edge.outlets import KeptOutlet

pytestmark = pytest.mark.anyio

QUICK = Settings(backoff_min_ms=1, backoff_max_ms=1)


class FakeInbox:
    """Holds messages by target, fails as often as told, and counts the queries under way."""

    def __init__(self, **seqs: list[int]) -> None:
        self.seqs = {name if name == ALL else f"user:{name}": numbers for name, numbers in seqs.items()}
        self.failures = 0
        self.excluded: dict[int, str] = {}
        self.traced: list[Traced] = []
        self.queries: list[str] = []
        self.meanwhile: Callable[[int], object] = lambda _seq: None
        self.most_at_once = 0
        self._at_once = 0

    async def page(
        self,
        target: str,
        after: int,
        until: int,
        most: int,
        most_bytes: int,
        *,
        head: int | None = None,
        ahead: Ahead | None = None,
    ) -> Page:
        """Return a page as the real one does."""
        del ahead
        assert head is None or head >= until
        self.queries.append(target)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await anyio.lowlevel.checkpoint()
        self._at_once -= 1
        self.meanwhile(self.seqs.get(target, [0])[-1] + len(self.queries))
        if self.failures:
            self.failures -= 1
            raise AutoReconnect
        found = [seq for seq in self.seqs[target] if after < seq <= until]
        most = min(most, most_bytes // 500)
        page = found[:most]
        messages = [(seq, b"%d" % seq) for seq in page]
        whole, ends = len(found) < most, dict.fromkeys(page, datetime.max.replace(tzinfo=UTC))
        return Page(messages, max([after, *page]), whole=whole, traced=self.traced, excluded=self.excluded, ends=ends)


def behind(name: str, at: int, goal: int) -> tuple[Position, KeptOutlet]:
    """Return a position in a user's order, or in that of `all`, that has fallen behind."""
    outlet = KeptOutlet()
    position = Position(outlet, name if name == ALL else f"user:{name}", 1_000)
    position.start(at)
    position.fall_behind(goal)
    return position, outlet


def wire(*seqs: int) -> list[bytes]:
    """Return what a client gets."""
    return [text_frame(b"%d" % seq) for seq in seqs]


@asynccontextmanager
async def catching_up(
    inbox: FakeInbox,
    clock: Callable[[], float] = lambda: 0.0,
    tracing: Tracing | None = None,
    allowed: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[CatchUp]:
    """Yield one that runs; by its clock a page takes no time unless told."""
    store: Any = inbox
    catch_up = CatchUp(
        store, anyio.CapacityLimiter(READERS), QUICK, Outages(Health(), QUICK), tracing, clock=clock, allowed=allowed
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(catch_up.run)
        yield catch_up
        tasks.cancel_scope.cancel()


async def until_live(*positions: Position) -> None:
    """Return when nobody is behind."""
    with anyio.fail_after(60):
        while any(position.goal is not None for position in positions):  # noqa: ASYNC110 - it has no event
            await anyio.sleep(0.001)


async def test_nothing_is_read_for_anybody_before_it_is_allowed() -> None:
    """And nothing for whoever is forgotten meanwhile."""
    inbox = FakeInbox(a=[1, 2], b=[1, 2])
    allowed = anyio.Event()
    async with catching_up(inbox, allowed=allowed.wait) as catch_up:
        stays, outlet = behind("a", 0, 2)
        leaves, nothing = behind("b", 0, 2)
        catch_up.ask(stays)
        catch_up.ask(leaves)
        await anyio.wait_all_tasks_blocked()
        assert inbox.queries == []
        catch_up.forget(leaves)
        allowed.set()
        await until_live(stays)
    assert (outlet.writes, nothing.writes) == ([wire(1, 2)], [])
    assert inbox.queries == ["user:a"]


async def test_reads_to_the_goal_and_goes_live() -> None:
    """Pages in order, nothing twice, and live behind the goal, which MongoDB need not have."""
    inbox = FakeInbox(a=list(range(1, 2 * PAGE_MAX + 50)))
    position, outlet = behind("a", 3, 2 * PAGE_MAX + 60)
    async with catching_up(inbox) as catch_up:
        catch_up.ask(position)
        await until_live(position)
    assert outlet.frames == wire(*range(4, 2 * PAGE_MAX + 50))
    assert position.take(2 * PAGE_MAX + 60, 2 * PAGE_MAX + 61, b"") is Verdict.DELIVER


async def test_tells_the_client_when_asked() -> None:
    """`caught_up` comes behind the last message, once."""
    position, outlet = behind("a", 0, 2)
    async with catching_up(FakeInbox(a=[1, 2, 3])) as catch_up:
        catch_up.ask(position, announce=True)
        await until_live(position)
    assert outlet.frames == [*wire(1, 2), encode(CaughtUp("user:a", 2))]


async def test_whom_a_message_passes_by_reads_on_without_it() -> None:
    """Of a page, and of what came live behind it; it stands where everybody stands, and only what was sent is counted."""
    inbox = FakeInbox(a=[1, 2, 3])
    inbox.excluded = {1: "device:a,phone", 3: "device:a,phone"}
    (position, phone), (other, desk) = behind("a", 0, 3), behind("a", 0, 3)
    phone.names = ("session:1", "device:a,phone")
    for one in (position, other):
        one.take(3, 4, text_frame(b"4"), "device:a,phone")
        one.goal = 3
    before = _replayed()
    async with catching_up(inbox) as catch_up:
        catch_up.ask(position, announce=True)
        catch_up.ask(other)
        await until_live(position, other)
    assert phone.frames == [*wire(2), encode(CaughtUp("user:a", 4))]
    assert desk.frames == wire(1, 2, 3, 4)
    assert position.at == other.at == 4
    assert _replayed() - before == 5


async def test_nothing_is_told_of_whom_a_message_passes_by() -> None:
    """Of what is traced in a page, only what is for the session."""
    told: list[tuple[Position, list[int]]] = []
    tracing: Any = SimpleNamespace(replayed=lambda position, some: told.append((position, [one.seq for one in some])))
    inbox = FakeInbox(a=[1, 2])
    inbox.excluded, inbox.traced = {1: "session:1"}, [Traced(seq, b"", alive=True) for seq in (1, 2)]
    position, outlet = behind("a", 0, 2)
    outlet.names = ("session:1",)
    async with catching_up(inbox, tracing=tracing) as catch_up:
        catch_up.ask(position)
        await until_live(position)
    assert told == [(position, [2])]


async def test_a_page_that_passes_a_client_by() -> None:
    """Nothing is written, and the position arrives."""
    inbox = FakeInbox(a=[1, 2])
    inbox.excluded = {1: "session:1", 2: "session:1"}
    position, outlet = behind("a", 0, 2)
    outlet.names = ("session:1",)
    async with catching_up(inbox) as catch_up:
        catch_up.ask(position)
        await until_live(position)
    assert (outlet.writes, position.at) == ([], 2)


def _replayed() -> float:
    return REGISTRY.get_sample_value("pushway_replayed_total") or 0.0


async def test_long_backlog_waits_its_turn() -> None:
    """Between two pages of the one, everybody else gets one; never more than so many queries at once."""
    users = {f"u{n}": [1] for n in range(20)}
    inbox = FakeInbox(long=list(range(1, 20 * PAGE_MAX)), **users)
    long, _ = behind("long", 0, 20 * PAGE_MAX)
    others = [behind(user, 0, 1)[0] for user in users]
    async with catching_up(inbox) as catch_up:
        for position in (long, *others):
            catch_up.ask(position)
        await until_live(long, *others)
    assert inbox.queries[: len(users) + 1].count("user:long") == 1
    assert inbox.most_at_once <= READERS


async def test_long_backlog_rests_where_the_store_is_slow() -> None:
    """For as long as its last page took, so that whoever stores has as much of the store as it."""
    page_s, pages = 2 * PAGE_S, 4
    inbox = FakeInbox(a=list(range(1, 10_000)))
    position, _ = behind("a", 0, pages * PAGE_MIN)
    ticks = itertools.count(step=page_s)
    async with catching_up(inbox, clock=lambda: next(ticks)) as catch_up:
        began_s = time.monotonic()
        catch_up.ask(position)
        await until_live(position)
    assert time.monotonic() - began_s >= (len(inbox.queries) - 1) * page_s
    assert len(inbox.queries) > 1


async def test_all_readers_wake() -> None:
    """After a time without work too: a query that hangs must not hold up everybody."""
    inbox = FakeInbox(**{f"u{n}": [1] for n in range(READERS)})
    positions = [behind(f"u{n}", 0, 1)[0] for n in range(READERS)]
    async with catching_up(inbox) as catch_up:
        await anyio.wait_all_tasks_blocked()
        for position in positions:
            catch_up.ask(position)
        await until_live(*positions)
    assert inbox.most_at_once == READERS


async def test_messages_that_never_cease() -> None:
    """A position arrives although something comes during every query."""
    inbox = FakeInbox(a=[1, 2])
    position, outlet = behind("a", 0, 2)
    inbox.meanwhile = lambda seq: position.take(seq - 1, seq, text_frame(b"%d" % seq))
    async with catching_up(inbox) as catch_up:
        catch_up.ask(position, announce=True)
        await until_live(position)
    assert outlet.frames == [*wire(1, 2, 3), encode(CaughtUp("user:a", 3))]
    assert inbox.queries == ["user:a"]


async def test_document_of_another_make() -> None:
    """The session that needs it ends, and the next one is served."""
    inbox = FakeInbox(b=[1])
    position, outlet = behind("a", 0, 1)
    other, _ = behind("b", 0, 1)
    async with catching_up(inbox) as catch_up:
        catch_up.ask(position)  # the inbox has no such target: KeyError
        catch_up.ask(other)
        await until_live(other)
    assert outlet.ended == 1


async def test_slow_reader_gets_no_further_page() -> None:
    """Until most of the last one has left; what comes live meanwhile costs nothing."""
    inbox = FakeInbox(a=list(range(1, 2 * PAGE_MAX)))
    position, outlet = behind("a", 0, 2 * PAGE_MAX)
    outlet.backlog_bytes = 10_000_000
    async with catching_up(inbox) as catch_up:
        catch_up.ask(position)
        other, _ = behind("a", 0, 5)
        catch_up.ask(other)
        await until_live(other)
        assert outlet.frames == []
        outlet.backlog_bytes = 0
        await until_live(position)
    assert outlet.frames == wire(*range(1, 2 * PAGE_MAX))


async def test_gone_client_is_forgotten() -> None:
    """Nothing is read for it."""
    inbox = FakeInbox(a=[1], b=[1])
    position, outlet = behind("a", 0, 1)
    outlet.gone = True
    other, _ = behind("b", 0, 1)
    async with catching_up(inbox) as catch_up:
        catch_up.ask(position)
        catch_up.ask(other)
        await until_live(other)
    assert inbox.queries == ["user:b"]


async def test_mongodb_away() -> None:
    """Whoever is behind stays so, and gets all of it when it is back."""
    inbox = FakeInbox(a=[1, 2])
    inbox.failures = 5
    position, outlet = behind("a", 0, 2)
    async with catching_up(inbox) as catch_up:
        catch_up.ask(position, announce=True)
        await until_live(position)
    assert outlet.frames == [*wire(1, 2), encode(CaughtUp("user:a", 2))]


async def test_a_position_that_is_forgotten_while_its_page_is_read() -> None:
    """Is put out nothing any more, though its session goes on: it has left the topic."""
    inbox = FakeInbox(a=list(range(1, 2 * PAGE_MAX)))
    position, outlet = behind("a", 0, 2 * PAGE_MAX)
    other, _ = behind("a", 0, 2 * PAGE_MAX)
    async with catching_up(inbox) as catch_up:
        inbox.meanwhile = lambda _seq: catch_up.forget(position)
        catch_up.ask(position)
        catch_up.ask(other)
        await until_live(other)
    assert (outlet.frames, position.at) == ([], 0)


async def test_a_position_that_is_forgotten_while_mongodb_is_away() -> None:
    """Is not read when it is back."""
    inbox = FakeInbox(a=[1], b=[1])
    inbox.failures = 1
    (position, outlet), (other, _) = behind("a", 0, 1), behind("b", 0, 1)
    async with catching_up(inbox) as catch_up:
        inbox.meanwhile = lambda _seq: catch_up.forget(position)
        catch_up.ask(position)
        catch_up.ask(other)
        await until_live(other)
        await anyio.wait_all_tasks_blocked()
    assert outlet.frames == []
    assert inbox.queries.count("user:a") == 1


async def test_pages_of_one_session_that_are_read_at_once() -> None:
    """Are not all put out when the first fills what may wait: the others are read again later."""
    inbox = FakeInbox(a=list(range(1, 100)), b=list(range(1, 100)))
    (first, outlet), (second, _) = behind("a", 0, 99), behind("b", 0, 99)
    second.outlet = outlet
    flush = outlet.flush

    def fill() -> int:
        outlet.backlog_bytes = 10**9
        return flush()

    outlet.flush = fill  # type: ignore[method-assign]
    async with catching_up(inbox) as catch_up:
        catch_up.ask(first)
        catch_up.ask(second)
        await until_live(first)
        await anyio.wait_all_tasks_blocked()
        assert outlet.frames == wire(*range(1, 100))
        outlet.backlog_bytes = 0
        await until_live(second)
    assert outlet.frames == wire(*range(1, 100), *range(1, 100))


# -- what many hear --------------------------------------------------------------------------------------------------


async def test_a_crowd_is_read_for_once() -> None:
    """Each has what is behind its own cursor, in order and once, and two hundred of them cost no more than a few queries."""
    inbox = FakeInbox(all=list(range(1, 1_001)))
    crowd = [behind(ALL, at, 1_000) for at in [0, *range(1, 1_000, 7), *range(990, 3, -11)]]
    async with catching_up(inbox) as catch_up:
        for position, _ in crowd:
            catch_up.ask(position, announce=True)
        await until_live(*(position for position, _ in crowd))
    for position, outlet in crowd:
        assert outlet.frames == [*wire(*range(position.began + 1, 1_001)), encode(CaughtUp(ALL, 1_000))]
    assert len(inbox.queries) < 10
    assert inbox.most_at_once == 1


async def test_who_comes_with_older_cursors_reads_what_is_lacking() -> None:
    """Up to where somebody else began, and each is live at the head of its own time."""
    inbox = FakeInbox(all=list(range(1, 101)))
    async with catching_up(inbox) as catch_up:
        for at, goal, queries in ((50, 90, 1), (70, 90, 1), (30, 90, 2), (30, 100, 3), (60, 95, 3), (0, 100, 4)):
            position, outlet = behind(ALL, at, goal)
            catch_up.ask(position)
            await until_live(position)
            assert outlet.frames == wire(*range(at + 1, goal + 1))
            assert len(inbox.queries) == queries


async def test_what_was_read_is_read_again_when_it_is_old() -> None:
    """So that what is erased is gone soon."""
    inbox, now_s = FakeInbox(all=[1, 2, 3]), [0.0]
    async with catching_up(inbox, clock=lambda: now_s[0]) as catch_up:
        for passed_s, expected in ((0.0, [1, 2, 3]), (AGE_S, [1, 2, 3]), (AGE_S / 2, [1, 3])):
            now_s[0] += passed_s
            position, outlet = behind(ALL, 0, 3)
            catch_up.ask(position)
            await until_live(position)
            assert outlet.frames == wire(*expected)
            inbox.seqs[ALL] = [1, 3]


async def test_whom_a_message_passes_by_among_a_crowd() -> None:
    """What is kept is sent to each without what passes it by."""
    inbox = FakeInbox(all=[1, 2, 3])
    inbox.excluded = {2: "session:1"}
    (position, outlet), (other, all_of_it) = behind(ALL, 0, 3), behind(ALL, 0, 3)
    outlet.names = ("session:1",)
    async with catching_up(inbox) as catch_up:
        catch_up.ask(other)
        catch_up.ask(position)
        await until_live(position, other)
    assert (outlet.frames, all_of_it.frames) == (wire(1, 3), wire(1, 2, 3))
    assert inbox.queries == [ALL]


async def test_a_read_for_many_that_fails() -> None:
    """All who wait for it wait on, and have it when MongoDB is back."""
    inbox = FakeInbox(all=[1, 2])
    inbox.failures = 3
    crowd = [behind(ALL, 0, 2) for _ in range(20)]
    async with catching_up(inbox) as catch_up:
        for position, _ in crowd:
            catch_up.ask(position)
        await until_live(*(position for position, _ in crowd))
    assert [outlet.frames for _, outlet in crowd] == [wire(1, 2)] * 20
    assert len(inbox.queries) == 4


async def test_a_document_of_another_make_among_a_crowd() -> None:
    """Ends every session that lacks it, and nobody waits for ever."""
    inbox = FakeInbox(b=[1])
    crowd = [behind(ALL, 0, 2) for _ in range(3)]
    other, _ = behind("b", 0, 1)
    async with catching_up(inbox) as catch_up:
        for position, _ in crowd:
            catch_up.ask(position)
        with anyio.fail_after(60):
            while not all(outlet.ended for _, outlet in crowd):  # noqa: ASYNC110 - it has no event
                await anyio.sleep(0.001)
        catch_up.ask(other)
        await until_live(other)
    assert [outlet.ended for _, outlet in crowd] == [1, 1, 1]


async def test_who_is_nearly_there_does_not_wait_for_who_is_far() -> None:
    """Of the same target: they take turns."""
    inbox = FakeInbox(all=list(range(1, 30 * PAGE_MAX)))
    far, _ = behind(ALL, 0, 30 * PAGE_MAX)
    near = [behind(ALL, 30 * PAGE_MAX - missed, 30 * PAGE_MAX)[0] for missed in (5, 10, 20)]
    async with catching_up(inbox) as catch_up:
        for position in (far, *near):
            catch_up.ask(position)
        await until_live(*near)
        assert far.goal is not None
        assert len(inbox.queries) < 10
        await until_live(far)


async def test_waiting_for_others_holds_nobody_up() -> None:
    """A crowd that waits for one read leaves the readers to everybody else."""
    inbox = FakeInbox(all=[1], a=[1])
    (position, _), (waits, outlet) = behind("a", 0, 1), behind(ALL, 0, 1)
    crowd = [waits, *(behind(ALL, 0, 1)[0] for _ in range(3 * READERS))]
    hung, page = anyio.Event(), inbox.page

    async def hang(target: str, *span: int, head: int, ahead: Ahead) -> Page:
        if target == ALL:
            await hung.wait()
        return await page(target, *span, head=head, ahead=ahead)

    inbox.page = hang  # type: ignore[method-assign,assignment]
    async with catching_up(inbox) as catch_up:
        for one in (*crowd, position):
            catch_up.ask(one)
        await until_live(position)
        # Who waits may leave.
        catch_up.forget(crowd[-1])
        hung.set()
        await until_live(*crowd[:-1])
    assert outlet.frames == wire(1)
    assert crowd[-1].goal == 1
    assert inbox.queries == ["user:a", ALL]
