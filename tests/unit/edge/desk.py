"""An admission of an edge with fakes around it, and connections that it admits."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup

from edge import kicked, replaced
from edge.admission import Admission
from edge.connection import Connection
from edge.cursors import Waiter as CursorWaiter
from edge.delivery import Delivery
from edge.feed import Feed, Hearing
from edge.gate import Gate
from edge.heads import Tell
from edge.ledger import Waiter
from edge.position import Outlet, Position
from edge.sessions import Sessions
from router.auth.bearer import NOBODY, Bearer
from router.auth.tokens import Claims
from router.cursors import CursorKey
from router.errors import KeysUnavailable, TokenExpired, TokenRefused
from router.lines import build_frame, build_line
from router.revocation import Revocations
from router.settings import Settings
from router.targets import ALL
from tests.unit.edge.client_socket import Socket
from tests.unit.edge.outlets import feed

NODE = "edge-1.k3f9"


class FakeVerifier:
    """A token is its user, or what happens to it.

    Attributes:
        bearers: of tokens that took a while.
    """

    def __init__(self) -> None:
        self.bearers: list[Bearer] = []

    waiting = 0

    def verify_at_once(self, token: str) -> Claims | None:
        """Return or raise, but for those that take a while."""
        match token:
            case "bad":
                raise TokenRefused("no")
            case "old":
                raise TokenExpired("no more")
            case "later" | "never" | "soon":
                return None
        return Claims(user=token, expires_at=int(time.time()) + 600, topics=("*",), jti="j")

    async def verify(self, token: str, bearer: Bearer = NOBODY) -> Claims:
        """Take that while."""
        self.bearers.append(bearer)
        match token:
            case "later":
                raise KeysUnavailable("wait")
            case "never":
                self.waiting += 1
                await anyio.sleep_forever()
        return Claims(user=token, expires_at=int(time.time()) + 600, topics=("*",), jti="j")


class KeptRevocations(Revocations):
    """Those that a test adds."""

    known = True


class KeptRoutes:
    """Keeps what is to be written."""

    def __init__(self) -> None:
        self.writes: list[tuple[str, Waiter | None]] = []
        self.come: list[str] = []

    def write(self, user: str, waiter: Waiter | None = None, come: str = "") -> None:
        """Keep it."""
        self.writes.append((user, waiter))
        self.come.append(come)

    def withdraw(self, user: str, waiter: Waiter) -> None:
        """Keep the write, but nobody to tell."""
        self.writes = [(whose, None if (whose, told) == (user, waiter) else told) for whose, told in self.writes]

    def answer(self, head: int | None, at_us: int = 1) -> None:
        """Answer all that wait."""
        for _, waiter in self.writes:
            if waiter is not None:
                waiter(head, at_us)
        self.writes.clear()


class FakeHeads:
    """Knows the newest of everybody, or nothing."""

    def __init__(self) -> None:
        self.newest: int | None = 77

    def ask(self, target: str, tell: Tell, above: int = 0) -> None:
        """Tell the same for each, at once."""
        assert target.startswith("user:")
        assert above == 0
        tell(self.newest)


class FakeCursors:
    """Remembers what it is told, and answers when the test says so."""

    def __init__(self) -> None:
        self.seqs: dict[CursorKey, int] = {}
        self.hastened: list[CursorKey] = []
        self.waiters: dict[CursorWaiter, Mapping[CursorKey, int]] = {}

    def find(self, begin_at: Mapping[CursorKey, int], waiter: CursorWaiter) -> None:
        """Keep who asks."""
        self.waiters[waiter] = begin_at

    def withdraw(self, waiter: CursorWaiter) -> None:
        """Forget who asked."""
        self.waiters.pop(waiter, None)

    def note(self, key: CursorKey, seq: int) -> None:
        """Remember."""
        self.seqs[key] = seq

    def hasten(self, key: CursorKey) -> None:
        """Remember."""
        self.hastened.append(key)

    def answer(self) -> None:
        """Answer all that wait."""
        for waiter, begin_at in list(self.waiters.items()):
            waiter({key: self.seqs.setdefault(key, seq) for key, seq in begin_at.items()})
        self.waiters.clear()


class FakeFeeds:
    """Every feed may be joined at once; nothing tells whether anybody publishes."""

    def __init__(self, audiences: MutableMapping[bytes, list[Position]]) -> None:
        self.audiences = audiences
        self.feeds: dict[str, Feed] = {}
        self.keep(ALL)

    def keep(self, target: str) -> None:
        """Have a feed stand."""
        self.feeds[target] = feed(target)
        self.audiences[target.encode()] = self.feeds[target].audience

    def hear(self, target: str, outlet: Outlet, tell: Callable[[Feed], None]) -> None:
        """Tell at once."""
        del outlet
        if target not in self.feeds:
            self.keep(target)
        tell(self.feeds[target])

    def withdraw(self, target: str, outlet: Outlet) -> None:
        """Nobody waits."""

    def leave(self, hearing: Hearing) -> None:
        """Leave."""
        hearing.feed.leave(hearing)


class FakeStanding:
    """Keeps who is to be looked up.

    Attributes:
        users: in the order of their asking.
    """

    def __init__(self) -> None:
        self.users: list[str] = []

    def look(self, user: str) -> None:
        """Keep a user."""
        self.users.append(user)

    def withdraw(self, user: str) -> None:
        """Forget a user."""
        self.users = [one for one in self.users if one != user]


class Desk:
    """An admission with fakes around it."""

    def __init__(self, tasks: TaskGroup, settings: Settings) -> None:
        self.sessions = Sessions[Connection](settings.sessions_user_max)
        self.routes = KeptRoutes()
        self.behind: list[tuple[Position, bool]] = []
        self.heads = FakeHeads()
        heads: Any = self.heads
        self.cursors = FakeCursors()
        cursors: Any = self.cursors
        catch_up: Any = self
        self.verifier = FakeVerifier()
        self.revocations = KeptRevocations()
        self.feeds = FakeFeeds(self.sessions.feeds)
        feeds: Any = self.feeds
        self.standing = FakeStanding()
        standing: Any = self.standing
        self.watched: list[tuple[str, Outlet]] = []
        watching: Any = self
        self.admission = Admission(
            settings,
            NODE,
            self.sessions,
            self.routes,
            self.verifier,
            self.revocations,
            heads,
            feeds,
            cursors,
            standing,
            catch_up,
            watching,
            tasks,
            Gate(settings, 1_000, 0.0),
        )
        notices = {
            replaced.WORD: partial(replaced.hear, self.sessions.find),
            kicked.WORD: partial(kicked.hear, self.sessions),
        }
        self.delivery = Delivery(self.sessions.audiences, self.ask, notices=notices)

    def ask(self, position: Position, *, announce: bool = False) -> None:
        """Keep who is behind."""
        self.behind.append((position, announce))

    def watch(self, topic: str, outlet: Outlet) -> None:
        """Keep who watches."""
        self.watched.append((topic, outlet))

    def forget(self, position: Position) -> None:
        """Keep who is behind and still there."""
        self.behind = [one for one in self.behind if one[0] is not position]

    async def registering(self, token: str, device: str = "") -> tuple[Connection, Socket]:
        """Return a connection whose token has been looked at."""
        connection = self.admission.accept()
        socket = Socket(connection, f"?device={device}" if device else "")
        socket.connect(token)
        await anyio.wait_all_tasks_blocked()
        return connection, socket

    async def live(self, user: str, head: int = 0) -> tuple[Connection, Socket]:
        """Return a connection that has had its welcome."""
        connection, socket = await self.registering(user)
        self.routes.answer(head)
        assert '"welcome"' in socket.frames()[0]
        return connection, socket

    async def live_device(self, user: str, device: str, at_us: int = 1) -> tuple[Connection, Socket]:
        """Return a connection of a device that has had its welcome, and whose client has not answered the challenge yet."""
        connection, socket = await self.registering(user, device)
        self.routes.answer(5, at_us)
        self.cursors.answer()
        assert '"welcome"' in socket.frames()[0]
        return connection, socket

    def publish(self, user: str, prev: int, seq: int) -> None:
        """Deliver a message."""
        frame = build_frame(f"user:{user}", seq, "m", 0, '"text":"x"')
        self.delivery.receive([build_line(f"user:{user}", prev, seq, None, frame).encode()])
