"""The way in and out of this node: from a socket to a session in the table, and back.

    opened ─▶ verify ─▶ register (table, then route) ─▶ registered ─▶ … left ─▶ closed

No task belongs to a socket on its way, but where somebody is to be asked: auth for the key of its token, or a service what to
think of it.

The table comes before the route: a message that dispatch publishes as soon as it sees the route finds the session's
position, which holds it until the head is known.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from edge.catch_up import CatchUp
from edge.closes import Close
from edge.connection import Connection
from edge.cursors import DeviceCursors
from edge.feed import Hearing
from edge.feeds import Feeds
from edge.forwarded import Proxies
from edge.gate import Gate
from edge.heads import Heads
from edge.ledger import Waiter
from edge.places import Places
from edge.position import Position
from edge.replaced import Replaced, come, tell
from edge.revocations import Judge, closing
from edge.sessions import Sessions, TooManySessions
from edge.standing import Standing
from edge.upgrade import Asked, read_bearer
from edge.watching import Watching
from router.auth.bearer import NOBODY, Bearer
from router.auth.tokens import Claims
from router.auth.verifier import Verifier
from router.crowd import Turns
from router.cursors import CursorKey
from router.errors import KeysUnavailable, TokenExpired, TokenRefused
from router.metrics import SESSIONS, TOKENS_CHECKED
from router.settings import Settings
from router.targets import USER_PREFIX

_RESULTS = ("accepted", "refused", "expired", "revoked", "unavailable")
_ACCEPTED, _REFUSED, _EXPIRED, _REVOKED, _UNAVAILABLE = map(TOKENS_CHECKED.labels, _RESULTS)


class RouteWriter(Protocol):
    """Who writes routes; see `edge.routes`."""

    def write(self, user: str, waiter: Waiter | None = None, come: str = "") -> None:
        """Have a user's route written as the table says, the other nodes told who is alive, and the waiter told the head."""

    def withdraw(self, user: str, waiter: Waiter) -> None:
        """Keep a waiter no longer."""


class Admission:
    """The host of all connections of a node.

    Args:
        settings: limits and timeouts, passed on to each connection.
        node: the node id.
        sessions: the table.
        routes: is told of every user that comes or goes.
        verifier: checks tokens.
        revocations: knows which of them are revoked.
        heads: is asked for heads that Redis cannot tell.
        feeds: what all or many hear of.
        cursors: finds and moves the cursors of devices.
        standing: finds what back ends have subscribed users to.
        catch_up: is told of positions that are behind.
        watching: tells clients who else has subscribed to a topic.
        tasks: where checks of tokens run; cancelled with the edge.
        gate: holds connections to their limits.

    Attributes:
        gate: counts who is here.
        proxies: the balancers that are believed.
        turns: has handshakes and tokens of a crowd wait for each other.
        connections: every open socket, for the sweep and the drain.
    """

    def __init__(
        self,
        settings: Settings,
        node: str,
        sessions: Sessions[Connection],
        routes: RouteWriter,
        verifier: Verifier,
        revocations: Judge,
        heads: Heads,
        feeds: Feeds,
        cursors: DeviceCursors,
        standing: Standing,
        catch_up: CatchUp,
        watching: Watching,
        tasks: TaskGroup,
        gate: Gate,
    ) -> None:
        self.settings = settings
        self.node = node
        self.gate = gate
        self.proxies = Proxies(settings.edge_proxies)
        self.turns = Turns(asyncio.get_running_loop().call_soon)
        self.connections: set[Connection] = set()
        self._sessions = sessions
        self._routes = routes
        self._verifier = verifier
        self._revocations = revocations
        self._heads = heads
        self._feeds = feeds
        self._cursors = cursors
        self._standing = standing
        self._catch_up = catch_up
        self._watching = watching
        self._tasks = tasks
        self._emptied = anyio.Event()
        # Of each connection, where somebody else judges tokens: for the connect frame, and for a newer token later.
        self._told = settings.auth_callback_headers if settings.auth_by == "http" else None
        self._bearers: dict[Connection, Bearer] = {}

    def accept(self) -> Connection:
        """Return the protocol of a new socket."""
        return Connection(self)

    def opened(self, connection: Connection) -> None:
        """A socket is there."""
        self.connections.add(connection)

    def requested(self, connection: Connection, request: Asked) -> None:
        """Keep of a request what a judge of tokens is told."""
        if self._told is not None:
            self._bearers[connection] = read_bearer(request, connection.peer, self._told)

    def verify(self, connection: Connection, token: str) -> None:
        """Check a token, beside everything else when that takes a while. Of a first one, the session has a deadline."""
        try:
            claims = self._verifier.verify_at_once(token)
        except TokenRefused as exc:
            _turn_away(connection, exc)
        else:
            if claims is None:
                self._tasks.start_soon(self._verify, connection, token, self._bearers.get(connection, NOBODY))
            else:
                self._let_in(connection, claims)

    def register(self, connection: Connection, user: str, device: str | None, position: Position) -> None:
        """Take a session in, beside an older one of the same device: that one stays until this one is known to be alive."""
        try:
            self._sessions.add(connection, user, device, position)
        except TooManySessions:
            connection.close(Close.TOO_MANY_SESSIONS)
            return
        SESSIONS.set(len(self._sessions))
        self._routes.write(user, connection.registered)

    def find_head(self, connection: Connection) -> None:
        """Ask MongoDB for a head. The session's own deadline ends the wait."""
        self._heads.ask(USER_PREFIX + connection.session.user, connection.head_found)

    def hear(self, connection: Connection, target: str) -> None:
        """Have the node hear of a target. The session's own deadline ends the wait for `all`."""
        self._feeds.hear(target, connection, connection.heard)

    def forgo(self, connection: Connection, target: str) -> None:
        """Forget that a session wished to hear of a target."""
        self._feeds.withdraw(target, connection)

    def leave(self, hearing: Hearing) -> None:
        """Have a session hear of a target no more."""
        if hearing.own is not None:
            self._catch_up.forget(hearing.own)
        self._feeds.leave(hearing)

    def watch(self, connection: Connection, topic: str) -> None:
        """Have a session told who else has subscribed to a topic."""
        self._watching.watch(topic, connection)

    def find_cursor(self, connection: Connection, begin_at: Mapping[CursorKey, int]) -> None:
        """Look a device's cursors up. The session's own deadline ends the wait."""
        self._cursors.find(begin_at, connection.resumed)

    def find_standing(self, user: str) -> None:
        """Look up what back ends have subscribed the user to."""
        self._standing.look(user)

    def move_cursor(self, key: CursorKey, seq: int) -> None:
        """Have a device's cursor moved forward."""
        self._cursors.note(key, seq)

    def prove(self, connection: Connection, device: str) -> None:
        """Have the user's other nodes told that a device's session is alive."""
        user = connection.session.user
        self._routes.write(user, connection.proved, come(user, device, connection.session.id))

    def replace(self, user: str, device: str, session: str, at_us: int) -> None:
        """Tell the sessions of that device here that this one was proved alive at that time."""
        tell(self._sessions.find, Replaced(user, device, session, at_us))

    def catch_up(self, position: Position, announce: bool) -> None:
        """Bring a position that is behind to its goal."""
        self._catch_up.ask(position, announce=announce)

    def left(self, connection: Connection) -> None:
        """A session takes no more messages."""
        user = connection.session.user
        self._routes.withdraw(user, connection.registered)
        self._routes.withdraw(user, connection.proved)
        self._cursors.withdraw(connection.resumed)
        if connection.session.places is not None:
            self._vacate(connection, connection.session.places)
        devices = self._sessions.devices(user)
        # Others may ask with which devices a user is here.
        if self._sessions.remove(connection, user) or self._sessions.devices(user) != devices:
            self._routes.write(user)
        if user not in self._sessions.users:
            self._standing.withdraw(user)
        SESSIONS.set(len(self._sessions))

    def _vacate(self, connection: Connection, places: Places) -> None:
        for key in places.cursors:
            self._cursors.hasten(key)
        self._catch_up.forget(places.own)
        for target in places.wished:
            self._feeds.withdraw(target, connection)
        for hearing in places.hearings:
            self.leave(hearing)

    def closed(self, connection: Connection) -> None:
        """A socket is gone."""
        self.connections.discard(connection)
        self._bearers.pop(connection, None)
        if not self.connections:
            self._emptied.set()

    async def emptied(self) -> None:
        """Return when no socket is open."""
        while self.connections:
            self._emptied = anyio.Event()
            await self._emptied.wait()

    def cut_all(self) -> None:
        """End every connection without a word."""
        for connection in list(self.connections):
            connection.cut()

    async def _verify(self, connection: Connection, token: str, bearer: Bearer) -> None:
        try:
            with anyio.fail_after(self.settings.connect_timeout_s):
                claims = await self._verifier.verify(token, bearer)
        except TokenRefused as exc:
            _turn_away(connection, exc)
        except (KeysUnavailable, TimeoutError):
            connection.unverifiable()
            _UNAVAILABLE.inc()
        else:
            self._let_in(connection, claims)

    def _let_in(self, connection: Connection, claims: Claims) -> None:
        """Let somebody in, or do not. Nothing awaits from the look at what is revoked until the session is in the table."""
        if not self._revocations.known:
            connection.unlisted()
            _UNAVAILABLE.inc()
            return
        revocation = self._revocations.find(claims.user, claims.iat, claims.jti)
        if revocation is not None:
            close, words = closing(revocation)
            connection.refused(words, close)
            _REVOKED.inc()
            return
        # The same leeway as at verification, or a token accepted by it would be refused at once.
        valid_s = claims.expires_at + self.settings.token_leeway_s - time.time()
        connection.verified(claims, valid_s)
        _ACCEPTED.inc()


def _turn_away(connection: Connection, problem: TokenRefused) -> None:
    if isinstance(problem, TokenExpired):
        connection.expired()
        _EXPIRED.inc()
    else:
        connection.refused(problem.reason)
        _REFUSED.inc()
