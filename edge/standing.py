"""Standing subscriptions: the topics that back ends have subscribed users to, read for the users with sessions here.

    a session is live ─┐
    notice `topics` ───┼─▶ waiting ─▶ one query for many users ─▶ each live session of them is told what stands
    heard again ───────┘      ▲                 │
                              └─────────────────┘ MongoDB is away, or it was asked too early

Behind the welcome, so that no session waits for it, nor notices that MongoDB is away. One query runs at a time, and many users
share one: those who come wait for company, since a query costs an edge nearly as much as somebody who comes; a notice has it go
out at once. Where nothing stands for anybody, as in many installations, the query only asks whether that is so still, and
everybody who waits shares it. Nothing of such an answer is kept: who comes later asks anew.

What is told is never older than the last notice that was heard. A user of whom a notice comes while a query runs waits again,
and what that query says of the user goes for nothing. So it is for a user whose last session ends meanwhile: without a route
no notice comes. An edge that has lost its subscription looks at all of its users as soon as it hears again.

The lines of the node's channel that are taken here (`router.subscriptions`):

    topics - - - {"user":…}                     look again
    unsubscribed - - - {"user":…,"topic":…}     end the topic in all sessions of the user, at once
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final, Protocol

import anyio
import msgspec

from router.mongo_client import STORE_OUTAGE
from router.outage import Outages

USERS_A_QUERY: Final = 256
"""Most users looked up at once."""

_REST_S: Final = 0.05
"""How long no query follows one that was not full. Twenty a second are no load."""

_COMPANY_S: Final = 0.2
"""How much longer those who come wait for others, unless a notice comes, or they are as many as a query takes."""


class Holder(Protocol):
    """Who holds a session; see `edge.connection`."""

    def standing(self, topics: Sequence[str]) -> None:
        """What stands for the user was read."""

    def ended(self, topic: str) -> None:
        """A back end has ended a topic."""


class Table(Protocol):
    """Who holds which sessions; see `edge.sessions`."""

    @property
    def users(self) -> Iterable[str]:
        """The users with a session here."""

    def of_user(self, user: str) -> Sequence[Holder]:
        """Return who holds sessions of a user, as they are when asked."""


class Store(Protocol):
    """Where subscriptions stand; see `router.subscriptions`."""

    def has_any(self) -> Awaitable[bool]:
        """Tell whether anybody has any.

        Raises:
            PyMongoError: when it cannot be asked.
        """

    def topics_of_many(self, users: Collection[str]) -> Awaitable[Mapping[str, Sequence[str]]]:
        """Return the topics of those of the users that have any.

        Raises:
            PyMongoError: when it cannot be asked.
        """


class _Changed(msgspec.Struct, frozen=True):
    """Whose subscriptions may have changed."""

    user: str


class _Ended(msgspec.Struct, frozen=True):
    """Which topic ends for whom."""

    user: str
    topic: str


_read_changed: Final = msgspec.json.Decoder(_Changed).decode
_read_ended: Final = msgspec.json.Decoder(_Ended).decode


class Standing:
    """Reads what stands for the users of one node.

    Args:
        store: where it is read.
        table: who has sessions here.
        reading: lets so many of the edge's queries run at once.
        outages: waits while MongoDB is away.
    """

    def __init__(self, store: Store, table: Table, reading: anyio.CapacityLimiter, outages: Outages) -> None:
        self._store = store
        self._table = table
        self._reading = reading
        self._outages = outages
        # Users with a session here, in the order of their asking: bounded as those are.
        self._waiting: dict[str, None] = {}
        self._asked_for: dict[str, None] = {}
        self._wake = anyio.Event()
        self._idle = self._urgent = False
        # Whether anybody was ever found to have any: then it is not asked for any more.
        self._in_use = False

    # -- called by sessions and the subscriber -----------------------------------------------------------------------

    def look(self, user: str) -> None:
        """Have what stands for a user read, and the user's sessions told: one is new."""
        self._waiting[user] = None
        if self._idle or len(self._waiting) == USERS_A_QUERY:
            self._wake.set()

    def withdraw(self, user: str) -> None:
        """Forget a user whose last session here has ended."""
        self._waiting.pop(user, None)
        self._asked_for.pop(user, None)

    def look_at_all(self) -> None:
        """Have everything read anew: notices may have been missed."""
        for user in self._table.users:
            self._look_again(user)

    def _look_again(self, user: str) -> None:
        self._asked_for.pop(user, None)
        self._waiting[user] = None
        self._urgent = True
        self._wake.set()

    # -- notices -----------------------------------------------------------------------------------------------------

    def hear_changed(self, payload: bytes) -> None:
        """Look again at the user that a line is about, if any session of the user is here.

        Raises:
            ValueError: when that is no such line.
        """
        user = _read_changed(payload).user
        if self._table.of_user(user):
            self._look_again(user)

    def hear_ended(self, payload: bytes) -> None:
        """End a topic in the sessions of the user that a line is about, if there are any here.

        Raises:
            ValueError: when that is no such line.
        """
        ended = _read_ended(payload)
        holders = self._table.of_user(ended.user)
        if holders:
            # What a query under way says of it is older.
            self._look_again(ended.user)
        for holder in holders:
            holder.ended(ended.topic)

    # -- run by the edge ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            await self._somebody()
            self._take()
            try:
                async with self._reading:
                    found = await self._read()
            except STORE_OUTAGE as exc:
                self._put_back()
                await self._outages.wait("mongo", exc)
                continue
            self._outages.over()
            full = self._in_use and len(self._asked_for) == USERS_A_QUERY
            self._tell(found)
            if not full:
                await self._rest()

    async def _somebody(self) -> None:
        while not self._waiting:
            self._wake, self._idle = anyio.Event(), True
            await self._wake.wait()
        self._idle = False

    async def _rest(self) -> None:
        await anyio.sleep(_REST_S)
        if not self._urgent and len(self._waiting) < USERS_A_QUERY:
            self._wake = anyio.Event()
            with anyio.move_on_after(_COMPANY_S):
                await self._wake.wait()

    async def _read(self) -> Mapping[str, Sequence[str]]:
        """Return what stands for those who are asked for.

        Raises:
            PyMongoError: when MongoDB cannot be asked.
        """
        if not self._in_use:
            self._in_use = await self._store.has_any()
            if not self._in_use:
                return {}
            # They may be more than a query takes.
            self._put_back()
            self._take()
        return await self._store.topics_of_many(list(self._asked_for))

    def _take(self) -> None:
        self._urgent = False
        self._asked_for = dict.fromkeys(islice(self._waiting, USERS_A_QUERY if self._in_use else None))
        for user in self._asked_for:
            del self._waiting[user]

    def _put_back(self) -> None:
        """Have those wait again, first, who have not left, nor wait already."""
        self._waiting, self._asked_for = self._asked_for | self._waiting, {}

    def _tell(self, found: Mapping[str, Sequence[str]]) -> None:
        users, self._asked_for = self._asked_for, {}
        for user in users:
            for holder in self._table.of_user(user):
                holder.standing(found.get(user, ()))
