"""edge.revocations: who is let in, whose sessions end, and when anything is delivered."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import count

import anyio
import msgspec
import pytest
from pymongo.errors import AutoReconnect

from edge.closes import Close
from edge.revocations import CONDITION, KnownRevocations, closing
from router.notices import notice
from router.ops import Health
from router.outage import Outages
from router.revocation import Revocation
from router.revoke import WORD
from router.revoked import Read
from router.settings import Settings

pytestmark = pytest.mark.anyio

UNTIL = int(time.time()) + 3_600
TIMEOUT_S = 20.0
WRITTEN = datetime(2026, 1, 1, tzinfo=UTC)

QUICK = Settings(backoff_min_ms=1, backoff_max_ms=1, revocation_refresh_s=0.01, revocation_grace_s=0.05)
SLOW = QUICK.model_copy(update={"revocation_refresh_s": 3_600.0, "revocation_grace_s": 3_600.0})


@dataclass(eq=False)
class Session:
    """Whose it is, by which token."""

    user: str
    iat: int = 0
    jti: str = ""


@dataclass(eq=False)
class Holder:
    """Keeps how its session was closed."""

    session: Session
    closed: list[Close] = field(default_factory=list)

    @property
    def gone(self) -> bool:
        """Whether it was."""
        return bool(self.closed)

    def close(self, close: Close, detail: str = "") -> None:
        """Keep it."""
        assert detail
        self.closed.append(close)


class FakeTable:
    """Sessions that never leave."""

    def __init__(self, *sessions: Session) -> None:
        self.all = [Holder(session) for session in sessions]

    def holders(self) -> list[Holder]:
        """Return all."""
        return list(self.all)

    def of_user(self, user: str) -> list[Holder]:
        """Return a user's."""
        return [holder for holder in self.all if holder.session.user == user]

    @property
    def closed(self) -> list[list[Close]]:
        """How each was closed."""
        return [holder.closed for holder in self.all]


class FakeStore:
    """Says what it holds; away, or held up, as the test says.

    Attributes:
        asked: since when it was asked each time.
        held: is awaited behind the look, before the answer.
    """

    def __init__(self, *found: Revocation) -> None:
        self.found = list(found)
        self.away = False
        self.asked: list[datetime | None] = []
        self.held = anyio.Event()
        self.held.set()

    async def read(self, newest: datetime | None = None) -> Read:
        """Answer."""
        self.asked.append(newest)
        found = list(self.found)
        await anyio.lowlevel.checkpoint()
        await self.held.wait()
        if self.away:
            raise AutoReconnect
        return Read(found, WRITTEN)


class Node:
    """An edge around it, that hears when the test says so."""

    def __init__(self, store: FakeStore, table: FakeTable, settings: Settings) -> None:
        self.store, self.table, self.health = store, table, Health()
        self.deaf_since_s: float | None = None
        self.opened = 0
        self.delivered: list[bytes] = []
        self.known = KnownRevocations(
            *(store, table, settings, self.health, Outages(Health(), settings)), self._heard_at_s, self._note_open
        )
        self.receive = partial(self.known.receive, self.delivered.extend)

    def _heard_at_s(self) -> float:
        return time.monotonic() if self.deaf_since_s is None else self.deaf_since_s

    def _note_open(self) -> None:
        self.opened += 1

    def subscribe(self) -> None:
        """Begin to subscribe, and have done so."""
        self.known.begin()
        self.known.subscribed()


@asynccontextmanager
async def node(*sessions: Session, store: FakeStore | None = None, settings: Settings = SLOW) -> AsyncIterator[Node]:
    """Yield one that runs."""
    made = Node(store or FakeStore(), FakeTable(*sessions), settings)
    with anyio.fail_after(TIMEOUT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(made.known.run)
            yield made
            tasks.cancel_scope.cancel()


async def until(holds: Callable[[], object]) -> None:
    """Return when a condition holds."""
    while not holds():  # noqa: ASYNC110 - it has no event
        await anyio.sleep(0.001)


def line(ident: str, before: int = 100, user: str = "") -> bytes:
    """Return the notice of a revocation."""
    return notice(WORD, Revocation(ident, before, UNTIL, user)).encode()


def test_how_sessions_end() -> None:
    """For good, but where only one token is revoked: then the client fetches another."""
    closes = [closing(Revocation(ident, 1, 2))[0] for ident in ("all", "user:a", "jti:t")]
    assert closes == [Close.NOT_AUTHENTICATED, Close.NOT_AUTHENTICATED, Close.TOKEN_EXPIRED]


async def test_nobody_is_let_in_before_it_is_known() -> None:
    """The edge is not ready until the list is read, and then judges by it."""
    store = FakeStore(Revocation("user:a", 100, UNTIL))
    store.away = True
    async with node(store=store) as edge:
        assert not edge.known.known
        assert CONDITION in edge.health.reasons
        store.away = False
        await until(lambda: edge.known.known)
        assert edge.health.ready
        assert edge.known.find("a", 99, "") is not None
        assert edge.known.find("a", 100, "") is None


async def test_nothing_is_delivered_before_the_list_is_read() -> None:
    """From the beginning of a subscription until a read that began behind its end; then it is found out what was missed."""
    store = FakeStore()
    async with node(Session("a"), store=store) as edge:
        await until(lambda: edge.known.known)
        edge.receive([b"early"])
        edge.known.begin()
        await anyio.wait_all_tasks_blocked()
        edge.receive([b"subscribing"])
        store.held = anyio.Event()
        edge.known.subscribed()
        edge.receive([b"reading"])
        await until(lambda: len(store.asked) == 2)
        assert (edge.delivered, edge.opened) == ([], 0)
        store.held.set()
        await edge.known.opened()
        edge.receive([b"on time"])
        assert (edge.delivered, edge.opened) == ([b"on time"], 1)


async def test_a_list_that_is_older_than_the_subscription_opens_nothing() -> None:
    """What was written between its reading and the subscription is in neither."""
    store = FakeStore()
    store.held = anyio.Event()
    async with node(Session("a"), store=store) as edge:
        await until(lambda: store.asked)
        edge.subscribe()
        store.found.append(Revocation("user:a", 100, UNTIL))
        store.held.set()
        await edge.known.opened()
        assert len(store.asked) == 2
        assert edge.table.closed == [[Close.NOT_AUTHENTICATED]]


async def test_a_notice_counts_while_the_list_is_read() -> None:
    """What is being read may be older: nothing unlearns it."""
    store = FakeStore()
    store.held = anyio.Event()
    async with node(Session("a"), Session("b"), store=store) as edge:
        edge.subscribe()
        await until(lambda: store.asked)
        edge.receive([line("user:a")])
        assert edge.table.closed == [[Close.NOT_AUTHENTICATED], []]
        store.held.set()
        await edge.known.opened()
        assert edge.known.find("a", 99, "") is not None


async def test_the_revoked_get_nothing_of_what_came_with_the_notice() -> None:
    """They are closed first, wherever in the chunk it stands; and those whose token is newer stay."""
    async with node(Session("a", iat=99), Session("a", iat=100), Session("b")) as edge:
        edge.subscribe()
        await edge.known.opened()
        closed: list[list[Close]] = []
        edge.known.receive(lambda _: closed.extend(edge.table.closed), [b"message", line("user:a")])
        assert closed == [[Close.NOT_AUTHENTICATED], [], []]


async def test_a_token_s_sessions_end() -> None:
    """Whose it is may be known or not; sessions of other tokens stay."""
    async with node(Session("a", 1, "t"), Session("a", 1, "u"), Session("b", 1, "v")) as edge:
        edge.receive([line("jti:t", user="a")])
        assert edge.table.closed == [[Close.TOKEN_EXPIRED], [], []]
        edge.receive([line("jti:v")])
        await until(lambda: edge.table.closed[2])
        assert edge.table.closed == [[Close.TOKEN_EXPIRED], [], [Close.TOKEN_EXPIRED]]


async def test_while_everybody_is_looked_at_nothing_is_delivered() -> None:
    """However many there are; then those who stay are looked at for what they missed."""
    many = 1_200
    async with node(*(Session(f"u{n}", iat=n % 2 * 200) for n in range(many))) as edge:
        edge.subscribe()
        await edge.known.opened()
        edge.receive([line("all"), b"behind"])
        assert edge.delivered == []
        await until(lambda: edge.opened == 2)
        assert edge.table.closed == [[], [Close.NOT_AUTHENTICATED]][::-1] * (many // 2)
        edge.receive([b"later"])
        assert edge.delivered == [b"later"]


async def test_others_that_are_revoked_meanwhile_hold_nothing_up() -> None:
    """People log out all the time: what is heard while everybody is looked at takes another look, but no payload."""
    async with node(*(Session(f"u{n}", iat=200) for n in range(1_200))) as edge, anyio.create_task_group() as tasks:
        edge.subscribe()
        await edge.known.opened()

        async def log_out() -> None:
            for number in count():
                edge.receive([line(f"jti:{number}")])
                await anyio.lowlevel.checkpoint()

        tasks.start_soon(log_out)
        edge.receive([line("all")])
        await until(lambda: edge.opened == 2)
        tasks.cancel_scope.cancel()


async def test_what_is_heard_twice_is_acted_on_once() -> None:
    """By the node's channel and by `all`, and read again."""
    async with node(Session("a"), settings=QUICK) as edge:
        edge.store.found.append(Revocation("user:a", 100, UNTIL))
        edge.receive([line("user:a"), line("user:a")])
        await until(lambda: len(edge.store.asked) > 3)
        assert edge.table.closed == [[Close.NOT_AUTHENTICATED]]


async def test_what_nobody_told_is_found() -> None:
    """Whoever revoked died before telling: the list is read every few seconds, and only what has changed."""
    async with node(Session("a"), settings=QUICK) as edge:
        edge.subscribe()
        await edge.known.opened()
        edge.store.asked.clear()
        edge.store.found.append(Revocation("user:a", 100, UNTIL))
        await until(lambda: edge.table.closed == [[Close.NOT_AUTHENTICATED]])
        assert set(edge.store.asked) == {WRITTEN}


async def test_a_clock_that_was_ahead_brings_no_token_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was over by it is read again once the clock is right."""
    now_s, ahead_s = time.time, 0
    monkeypatch.setattr(time, "time", lambda: now_s() + ahead_s)
    async with node(Session("b"), settings=QUICK, store=FakeStore(Revocation("user:a", 100, UNTIL))) as edge:
        edge.subscribe()
        await edge.known.opened()
        ahead_s = 2 * 3_600
        await until(lambda: edge.known.find("a", 99, "") is None)
        edge.store.asked.clear()
        ahead_s = 0
        await until(lambda: edge.known.find("a", 99, "") is not None)
        await until(lambda: None in edge.store.asked)


@pytest.mark.parametrize("heard", [b"{", b'{"id":1}', b"[" * 100_000, b'{"id":"user:a","before":"x","expires_at":1}'])
async def test_a_line_that_is_none_changes_nothing(heard: bytes) -> None:
    """Nor does what comes with it."""
    async with node(Session("a")) as edge:
        edge.subscribe()
        await edge.known.opened()
        edge.receive([b"revoked - - - " + heard, b"revoked ", b"message"])
        assert edge.table.closed == [[]]
        assert b"message" in edge.delivered


async def test_without_redis_and_mongodb_everyone_goes_after_the_grace() -> None:
    """And nobody comes until the list can be read; once it can, Redis may still be away."""
    async with node(Session("a"), Session("b"), settings=QUICK) as edge:
        await until(lambda: edge.known.known)
        began_s = time.monotonic()
        edge.deaf_since_s = began_s
        edge.store.away = True
        await until(lambda: not edge.known.known)
        assert time.monotonic() - began_s >= QUICK.revocation_grace_s
        await until(lambda: all(edge.table.closed))
        assert edge.table.closed == [[Close.OVERLOADED]] * 2
        assert not edge.health.ready
        edge.store.away = False
        await until(lambda: edge.known.known)
        assert edge.health.ready


@pytest.mark.parametrize("hears", [True, False])
async def test_with_one_of_both_everyone_stays(hears: bool) -> None:
    """Redis tells, or MongoDB does."""
    async with node(Session("a"), settings=QUICK) as edge:
        await until(lambda: edge.known.known)
        if hears:
            edge.store.away = True
        else:
            edge.deaf_since_s = time.monotonic()
        before = len(edge.store.asked)
        await anyio.sleep(2 * QUICK.revocation_grace_s)
        await until(lambda: len(edge.store.asked) > before + 2)
        assert edge.known.known
        assert edge.table.closed == [[]]


async def test_a_read_that_hangs_ends_with_the_grace() -> None:
    """It is not waited for any longer."""
    async with node(Session("a"), settings=QUICK) as edge:
        await until(lambda: edge.known.known)
        edge.deaf_since_s = 0.0
        edge.store.held = anyio.Event()
        await until(lambda: edge.table.closed == [[Close.OVERLOADED]])


async def test_what_is_stored_is_sent_only_while_it_is_known_who_may_have_it() -> None:
    """An edge that hears may send, and one that has just read; who was without both reads first."""
    settings = QUICK.model_copy(update={"revocation_grace_s": 3_600.0})
    async with node(settings=settings) as edge:
        await edge.known.current()
        edge.deaf_since_s = 0.0
        edge.store.away = True
        lately_s = 2 * settings.revocation_refresh_s
        await anyio.sleep(2 * lately_s)
        with anyio.move_on_after(lately_s) as waited:
            await edge.known.current()
        assert waited.cancelled_caught
        edge.store.away = False
        await edge.known.current()


def test_a_notice_is_one_line() -> None:
    """Whatever the id of a token holds."""
    said = line("jti:a\u2028b\n c")
    assert b"\n" not in said
    assert msgspec.json.decode(said.split(b" ", 4)[4], type=Revocation).id == "jti:a\u2028b\n c"
