"""What is revoked, as this node knows it: who is let in, whose sessions end, and when anything may be delivered again.

    start ─▶ read all of it ─▶ known: clients are let in
    notice `revoked` ─▶ known at once, and the sessions that it concerns are closed
    every `revocation_refresh_s` ─▶ read what has changed; whoever died before telling has written it

An edge that hears nothing of Redis hears of no revocation either. So from the moment at which it begins to subscribe until the
list has been read after that, payloads are dropped (`receive`), routes wait (`opened`) and the inbox is not read for anybody
(`current`); only notices of this kind are heard, for the list that is being read may be older. Then the sessions that may have
missed something are brought to their heads as after any loss (`on_open`).

    begin ─▶ closed ── subscribed, then read ─▶ open ── the subscription is lost ─▶ closed …

Without Redis but with MongoDB the list is read on, every `revocation_refresh_s`. Without either for longer than
`revocation_grace_s`, everyone is closed, to come again elsewhere, and nobody is let in until the list can be read.

The sessions of one user are found at once, and are closed before anything that came behind the notice is delivered. What may
concern anybody takes a look at all sessions, some at a time; if it is everybody's tokens, payloads are dropped meanwhile.

A session in whose place a newer token stands is judged by that. What one learns here is never unlearned before it is over.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Final, Protocol

import anyio
import msgspec
import structlog

from edge.closes import Close
from router.metrics import REVOCATIONS, REVOCATIONS_AGE_SECONDS, SESSIONS_REVOKED
from router.mongo_client import STORE_OUTAGE
from router.ops import Health
from router.outage import Outages
from router.revocation import ALL, Revocation, Revocations
from router.revoke import WORD
from router.revoked import Read
from router.settings import Settings

CONDITION: Final = "revocations"
"""The readiness condition: it is known what is revoked."""

_HEAD: Final = f"{WORD} ".encode()
_LINE_PARTS: Final = 4

_SLICE: Final = 500
"""Sessions looked at before the event loop gets its turn: well under a millisecond, where none is closed."""

_A_CLOSE: Final = 10
"""For how many looks a close counts: it takes nearly a tenth of a millisecond, so fifty of them are some milliseconds."""

_REST_S: Final = 0.25
"""How long no look at all sessions follows another: revocations come by the dozen where people log out."""

_WHOLE_EVERY_S: Final = 600.0
"""How often all of the list is read, whatever its own times say of what has changed."""

log = structlog.get_logger(__name__)


class Judge(Protocol):
    """Who can tell whether a token is revoked."""

    @property
    def known(self) -> bool:
        """Whether it can be told."""

    def find(self, user: str, iat: int, jti: str) -> Revocation | None:
        """Return a revocation of a token, None of one that is good."""


class Named(Protocol):
    """A session, and the token that holds it."""

    user: str

    @property
    def iat(self) -> int:
        """When the token was issued, Unix seconds."""

    @property
    def jti(self) -> str:
        """The token's id; "" for none."""


class Holder(Protocol):
    """Who holds a session; see `edge.connection`."""

    @property
    def session(self) -> Named:
        """It."""

    @property
    def gone(self) -> bool:
        """Whether it is closing, or closed."""

    def close(self, close: Close, detail: str = "") -> None:
        """End the session."""


class Table(Protocol):
    """Who holds which sessions; see `edge.sessions`. Both return them as they are when asked."""

    def holders(self) -> Sequence[Holder]:
        """Return who holds sessions."""

    def of_user(self, user: str) -> Sequence[Holder]:
        """Return who holds sessions of a user."""


class Store(Protocol):
    """Where revocations stand; see `router.revoked`."""

    def read(self, newest: datetime | None = None) -> Awaitable[Read]:
        """Return those written since a while before `newest`, all without it.

        Raises:
            PyMongoError: when it cannot be asked.
        """


def closing(revocation: Revocation) -> tuple[Close, str]:
    """Return how a session with a revoked token ends, and why: of one token, its client fetches another first."""
    close = Close.TOKEN_EXPIRED if revocation.of_one_token else Close.NOT_AUTHENTICATED
    return close, "the token has been revoked"


_decoder: Final = msgspec.json.Decoder(Revocation)


class KnownRevocations:
    """Knows what is revoked, and acts on it.

    Args:
        store: where it is read.
        table: who has sessions here.
        settings: `revocation_refresh_s`, `revocation_grace_s`, `mongo_timeout_s`.
        health: gets the condition `revocations`.
        outages: waits while MongoDB is away.
        heard_at_s: tells when this node was last sure to hear all that is sent to it (monotonic clock).
        on_open: called when payloads are delivered again, after some may have been dropped.
    """

    def __init__(
        self,
        store: Store,
        table: Table,
        settings: Settings,
        health: Health,
        outages: Outages,
        heard_at_s: Callable[[], float],
        on_open: Callable[[], None],
    ) -> None:
        self._store = store
        self._table = table
        self._refresh_s, self._grace_s = settings.revocation_refresh_s, settings.revocation_grace_s
        self._timeout_s = settings.mongo_timeout_s
        self._health = health
        self._outages = outages
        self._heard_at_s = heard_at_s
        self._on_open = on_open
        self._revocations = Revocations()
        self._known = False
        self._open = self._subscribed = False
        # How often everybody's tokens were said to be revoked, and of how many of these all sessions have been looked at since.
        self._said_of_all = self._seen_to = 0
        # Counts subscriptions that were begun or made: a list read across one of these may be older than it.
        self._turn = 0
        self._newest: datetime | None = None
        self._read_at_s = self._whole_at_s = time.monotonic()
        self._latest_s = 0.0
        self._asked, self._was_read, self._look_asked = anyio.Event(), anyio.Event(), anyio.Event()
        health.set(CONDITION, ok=False, why="what is revoked has not been read yet")
        REVOCATIONS.set_function(self._revocations.__len__)
        REVOCATIONS_AGE_SECONDS.set_function(lambda: time.monotonic() - self._read_at_s)

    # -- called by admission -----------------------------------------------------------------------------------------

    @property
    def known(self) -> bool:
        """Whether it can be told what is revoked."""
        return self._known

    def find(self, user: str, iat: int, jti: str) -> Revocation | None:
        """Return a revocation of a token, None of one that is good."""
        return self._revocations.find(user, iat, jti)

    # -- called by the subscriber ------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A subscription is being made: deliver nothing until it is known who may stay."""
        self._open = self._subscribed = False
        self._turn += 1

    def subscribed(self) -> None:
        """It is made: what is revoked from here on is heard, and what was before is in the list."""
        self._subscribed = True
        self.read_soon()

    def read_soon(self) -> None:
        """Have the list read: a notice may have been missed."""
        self._turn += 1
        self._asked.set()

    def receive(self, deliver: Callable[[list[bytes]], None], payloads: list[bytes]) -> None:
        """Have payloads delivered, but to nobody whose token one of them says is revoked; drop them while that is not known."""
        for payload in payloads:
            if payload.startswith(_HEAD):
                self._hear(payload)
        if self._open and not self._clearing:
            deliver(payloads)

    # -- awaited by those who deliver --------------------------------------------------------------------------------

    async def opened(self) -> None:
        """Return when payloads are delivered."""
        while not self._open:
            await self._was_read.wait()

    async def current(self) -> None:
        """Return when sessions may be sent what is stored: this node hears of revocations, or has read them just now."""
        while not self._is_current:
            await self._was_read.wait()

    @property
    def _clearing(self) -> bool:
        """Whether the sessions of everybody are still to be looked at."""
        return self._seen_to != self._said_of_all

    @property
    def _is_current(self) -> bool:
        lately_s = time.monotonic() - 2 * self._refresh_s
        return (self._open and self._heard_at_s() > lately_s) or (self._known and self._read_at_s > lately_s)

    # -- run by the edge ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Read, and look at sessions, until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_reading)
            tasks.start_soon(self._keep_looking)

    async def _keep_reading(self) -> None:
        while True:
            self._asked = anyio.Event()
            try:
                await self._read()
            except (*STORE_OUTAGE, TimeoutError) as exc:
                if self._known and self._unsure_s >= self._grace_s:
                    await self._close_everyone()
                await self._outages.wait("mongo", exc)
            else:
                self._outages.over()
                with anyio.move_on_after(self._refresh_s):
                    await self._asked.wait()

    async def _read(self) -> None:
        """Read what has changed, or all of it, and act on it.

        Raises:
            PyMongoError, TimeoutError: when it could not be read.
        """
        turn, began_s = self._turn, time.monotonic()
        # By a clock that was ahead something may have been over that is not.
        set_back = time.time() < self._latest_s
        whole = not self._open or set_back or began_s - self._whole_at_s > _WHOLE_EVERY_S
        with anyio.fail_after(self._read_timeout_s()):
            found, newest = await self._store.read(None if whole else self._newest)
        if whole:
            self._whole_at_s = began_s
        # Of several tasks none but this one counts on it; what is heard meanwhile is added, too.
        await self._take(found)
        self._newest, self._read_at_s = newest, began_s
        self._latest_s = time.time()
        self._revocations.drop_over(self._latest_s)
        self._now_known()
        if self._subscribed and not self._open and turn == self._turn:
            self._now_open()
        self._was_read.set()
        self._was_read = anyio.Event()

    async def _take(self, found: Iterable[Revocation]) -> None:
        news = [one for one in found if self._revocations.add(one)]
        if not all(one.whose for one in news):
            await self._look_at_all()
            return
        for one in news:
            self._look_at(self._table.of_user(one.whose))

    def _now_known(self) -> None:
        if not self._known:
            self._known = True
            self._health.set(CONDITION, ok=True)
            log.info("revocations_known", revocations=len(self._revocations))

    def _now_open(self) -> None:
        self._open = True
        if not self._clearing:
            self._on_open()

    # -- the sessions ------------------------------------------------------------------------------------------------

    def _hear(self, payload: bytes) -> None:
        try:
            one = _decoder.decode(payload.split(b" ", _LINE_PARTS)[_LINE_PARTS])
        except (ValueError, IndexError, RecursionError):  # the latter is the decoder's word for what is nested too deeply
            log.exception("line_refused", head=payload[:64])
            return
        if not self._revocations.add(one):
            return
        if one.whose:
            self._look_at(self._table.of_user(one.whose))
        else:
            self._said_of_all += one.id == ALL
            self._look_asked.set()

    async def _keep_looking(self) -> None:
        """Look at all sessions when something was heard that may concern any of them."""
        while True:
            await self._look_asked.wait()
            self._look_asked = anyio.Event()
            cleared, said = self._clearing, self._said_of_all
            await self._look_at_all()
            self._seen_to = said
            if cleared and not self._clearing and self._open:
                self._on_open()
            await anyio.sleep(_REST_S)

    async def _look_at_all(self) -> None:
        """Close all sessions whose tokens are revoked. Who comes meanwhile is judged at the door."""
        await _by_slices(self._table.holders(), self._look_at_one)

    def _look_at(self, holders: Iterable[Holder]) -> None:
        for holder in holders:
            self._look_at_one(holder)

    def _look_at_one(self, holder: Holder) -> bool:
        """Close a session if its token is revoked; tell whether it was."""
        session = holder.session
        found = None if holder.gone else self._revocations.find(session.user, session.iat, session.jti)
        if found is None:
            return False
        SESSIONS_REVOKED.inc()
        holder.close(*closing(found))
        return True

    # -- without Redis and MongoDB -----------------------------------------------------------------------------------

    @property
    def _unsure_s(self) -> float:
        """For how long nothing has been known of what is revoked, neither by hearing nor by reading."""
        return time.monotonic() - max(self._heard_at_s(), self._read_at_s)

    def _read_timeout_s(self) -> float:
        """Return how long a read may take: where the grace ends before that, until then."""
        left_s = self._grace_s - self._unsure_s
        return min(self._timeout_s, left_s) if self._known and left_s > 0 else self._timeout_s

    async def _close_everyone(self) -> None:
        self._known = False
        self._health.set(CONDITION, ok=False, why="neither Redis nor MongoDB tells what is revoked")
        holders = self._table.holders()
        log.error("revocations_unknown", sessions=len(holders), for_s=round(self._unsure_s))
        await _by_slices(holders, _send_elsewhere)


def _send_elsewhere(holder: Holder) -> bool:
    if holder.gone:
        return False
    holder.close(Close.OVERLOADED, "what is revoked cannot be read")
    return True


async def _by_slices(holders: Iterable[Holder], look: Callable[[Holder], bool]) -> None:
    """Look at holders, some at each pass of the event loop; of those that a look closes, fewer."""
    left = _SLICE
    for holder in holders:
        left -= _A_CLOSE if look(holder) else 1
        if left <= 0:
            await anyio.lowlevel.checkpoint()
            left = _SLICE
