"""What stands behind an edge in `tests.unit.edge.cluster`, played: collect and MongoDB, and Redis between them and the edge."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from router.collapse import Ahead, collapsed, latest_ends
from router.lines import build_frame, build_line
from router.stored import Keyed, Page

USER: Final = "ann"
TARGET: Final = f"user:{USER}"
DESK: Final = "desk"
"""The device that has a name, which the server keeps a cursor for."""

BUT_DESK: Final = f"device:{USER},{DESK}"
"""The `exclude` of a message for all but that one."""

LONG: Final = 20
"""Life of a message, by the store's clock, which goes on with each that ends."""

FIRST_SEQ: Final = 16 * 10**14
"""In 2020, as µs: what a session makes of cursors older than is kept, and of those from the future, is not the matter here."""


@dataclass(slots=True)
class Accepted:
    """A message that MongoDB has.

    Attributes:
        before: the seq of the message accepted before it.
        exclude: whom it passes by; "" for nobody.
        collapse: its key; "" for none.
        ends: when its time is over, by the store's clock.
        expired: that is so.
        removed: MongoDB has dropped it.
    """

    before: int
    seq: int
    exclude: str = ""
    collapse: str = ""
    ends: int = LONG
    expired: bool = False
    removed: bool = False

    @property
    def keyed(self) -> Keyed:
        """Its key, and when it ends."""
        return Keyed(self.collapse, datetime.fromtimestamp(self.ends, UTC))

    @property
    def frame(self) -> str:
        """What the client gets."""
        return build_frame(TARGET, self.seq, f"m{self.seq}", 0, '"text":"hi"')

    def line(self, prev: int) -> bytes:
        """Return a payload line; any `prev` from `before` up to the seq is a true one."""
        return build_line(TARGET, prev, self.seq, 1 if self.expired else None, self.frame, exclude=self.exclude).encode()


@dataclass(slots=True)
class Query:
    """What the edge waits for: the answer stands, as MongoDB had it when it was asked."""

    answer: Any
    answered: asyncio.Future[None]


class Store:
    """Collect and the inbox: what is accepted, and the queries under way.

    Attributes:
        accepted: in the order of seqs.
        now: counts as time passes.
    """

    def __init__(self) -> None:
        self.accepted: list[Accepted] = []
        self.now = 0
        self.queries: list[Query] = []
        self.page_max = 1

    @property
    def top(self) -> int:
        """The highest seq, 0 where there is none."""
        return self.accepted[-1].seq if self.accepted else 0

    def until(self, seq: int) -> list[Accepted]:
        """Return what is accepted up to a seq."""
        return [one for one in self.accepted if one.seq <= seq]

    def accept(self, step: int, exclude: str = "", collapse: str = "", ttl: int = LONG) -> None:
        """Store one message, whose seq lies so much above the one before it."""
        seq = max(self.top, FIRST_SEQ) + step
        self.accepted.append(Accepted(self.top, seq, exclude, collapse, self.now + ttl))

    def expire(self, message: Accepted) -> None:
        """Let time pass until a message's is over, and with it that of all that end no later."""
        self.now = max(self.now, message.ends)
        for one in self.accepted:
            one.expired |= one.ends <= self.now

    def between(self, after: int, until: int, names: Collection[str] = ()) -> list[Accepted]:
        """Return what is accepted with after < seq <= until, has not expired and passes nobody of these names by."""
        return [one for one in self.accepted if after < one.seq <= until and not one.expired and one.exclude not in names]

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
        """Look now, and tell when the test says so."""
        del target, most, most_bytes, ahead
        found = [one for one in self.accepted if after < one.seq <= until and not one.removed][: self.page_max]
        messages = [(one.seq, one.frame.encode()) for one in found if not one.expired]
        reached = max([after, *(one.seq for one in found)])
        excluded = {one.seq: one.exclude for one in found if one.exclude}
        collapse = {one.seq: one.keyed for one in found if one.collapse and not one.expired}
        whole = len(found) < self.page_max
        whatever = Page(messages, reached, whole=whole, excluded=excluded, collapse=collapse)
        newer = latest_ends(one.keyed for one in self.accepted if reached < one.seq <= (head or 0))
        page: Page = await self._query(collapsed(whatever, newer))
        return page

    def lacking(self, after: int, until: int, names: Collection[str] = ()) -> list[Accepted]:
        """Return what of that may not be left out either: what nobody may be sent a later one without."""
        return [one for one in self.between(after, until, names) if not self.may_be_left_out(one)]

    def may_be_left_out(self, message: Accepted) -> bool:
        """Tell whether there is a newer one of its key that ends no earlier."""
        newer = [one for one in self.accepted if one.seq > message.seq and one.collapse == message.collapse != ""]
        return any(one.ends >= message.ends for one in newer)

    async def newest_above(self, target: str, above: int) -> int:
        """Likewise."""
        del target
        newest: int = await self._query(max(above, self.top))
        return newest

    async def newest_of_few(self, targets: Sequence[str]) -> dict[str, int]:
        """Likewise; there is one target."""
        newest: dict[str, int] = await self._query(dict.fromkeys(targets, self.top))
        return newest

    async def _query(self, answer: object) -> Any:  # noqa: ANN401 - what it was given
        query = Query(answer, asyncio.get_running_loop().create_future())
        self.queries.append(query)
        await query.answered
        return query.answer

    def answer(self, nth: int, failure: Exception | None = None) -> None:
        """Let one of the queries come to its end."""
        query = self.queries.pop(nth % len(self.queries))
        if failure is None:
            query.answered.set_result(None)
        else:
            query.answered.set_exception(failure)


@dataclass(slots=True)
class Wire:
    """Redis as the edge sees it.

    Attributes:
        out: lines that dispatch has not taken yet.
        channel: lines that are published and not received.
        hears: the edge is subscribed and its routes stand; what is published otherwise is gone.
        handed: the highest seq that has been put into `out`.
    """

    out: deque[bytes] = field(default_factory=deque)
    channel: deque[bytes] = field(default_factory=deque)
    hears: bool = True
    handed: int = 0

    def append(self, one: Accepted, prev: int) -> None:
        """Put a line into `out`."""
        self.out.append(one.line(prev))
        self.handed = max(self.handed, one.seq)

    def dispatch(self, count: int, *, acknowledged: bool) -> None:
        """Publish the first lines of `out`; they stay there when dispatch dies before it has acknowledged them."""
        lines = [self.out.popleft() for _ in range(min(count, len(self.out)))]
        if self.hears:
            self.channel.extend(lines)
        if not acknowledged:
            self.out.extendleft(reversed(lines))

    def lose(self) -> None:
        """Cut the edge off: what it has not received is gone."""
        self.hears = False
        self.channel.clear()
