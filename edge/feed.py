"""One target that many sessions of this node hear, a topic or `all`: heard, judged and encoded once for all of them.

A feed is the node's own place in the target's order (`position`), and the sessions that stand exactly there: its members. A
message is judged once, by that position; what it lets through is joined once a chunk, and written to each member in one pass.
What the node has missed is read once, and every member has it. Whom a message passes by (`exclude`) is looked for among the
members when a chunk is written, once for all that it holds.

Who comes back with a cursor stands elsewhere, and has a position of its own until it has caught up:

    join, from now ───────────────────────────────▶ member ───▶ leave
    join, behind a cursor ─▶ own position ─▶ live ─▶ settled
                                             (it stands where the feed stands)

`audience` is what delivery walks for a line of the target: the feed's position, then the own ones.

Nobody waits for the slow: what comes waits in a slow client's own buffer, until that is full and the session ends. Much at
once, such as pages of what the node has missed, would fill it without the client's fault. So a member that has not read the
last of much yet is sent no more of it: it gets a position of its own, which catch-up parks until the client has read. A chunk
that is more than any buffer takes is not put out as it came, but read from the inbox for all members, a page at a time.

Pure: nothing here awaits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, Protocol

from edge.position import Outlet, Position

_UNREAD_MAX_BYTES: Final = 65_536
"""What counts as much at once, and as unread."""


class Hearing:
    """One session's place in a feed.

    Attributes:
        feed: of which target.
        outlet: whose.
        own: its own position, while it does not stand where the feed does.
    """

    __slots__ = ("feed", "outlet", "own")

    def __init__(self, feed: Feed, outlet: Outlet) -> None:
        self.feed = feed
        self.outlet = outlet
        self.own: Position | None = None

    @property
    def at(self) -> int:
        """The last seq put out to the session, or passed over."""
        return self.feed.position.at if self.own is None else self.own.at


class Roll(Protocol):
    """Who is told of each session that joins a feed or leaves it. Called within either: it must not act on the feed."""

    def came(self, feed: Feed, outlet: Outlet) -> None:
        """A session has joined."""

    def went(self, feed: Feed, outlet: Outlet) -> None:
        """A session has left."""


class Rolls:
    """Several as one."""

    def __init__(self, *rolls: Roll) -> None:
        self._rolls = rolls

    def came(self, feed: Feed, outlet: Outlet) -> None:
        """Tell each of them."""
        for roll in self._rolls:
            roll.came(feed, outlet)

    def went(self, feed: Feed, outlet: Outlet) -> None:
        """Tell each of them."""
        for roll in self._rolls:
            roll.went(feed, outlet)


UNTOLD: Final = Rolls()
"""Of a feed whose sessions nobody asks for, such as that of `all`."""


class Feed:
    """A target's sessions on this node, and the outlet of the node's own position.

    Args:
        target: `topic:<name>` or `all`.
        held_max_bytes: most bytes that may wait for the head.
        behind: is told of positions that have fallen behind here.
        roll: is told of each session that joins or leaves.

    Attributes:
        position: the node's place in the target's order. Nobody joins before it is started.
        audience: the positions that judge each message of the target.
        out: frames of the chunk in hand.
        gone: set when the node hears of the target no more.
        waiting: who asked to hear of the target and has not joined: how to tell that it may be joined.
        overfilled: more came before the head than could be held, so that a head of that time says too little.
    """

    __slots__ = (
        "_behind",
        "_held_max_bytes",
        "_members",
        "_own",
        "_paging",
        "_passing",
        "_roll",
        "_written_at",
        "audience",
        "gone",
        "out",
        "overfilled",
        "position",
        "waiting",
    )

    def __init__(self, target: str, held_max_bytes: int, behind: Callable[[Position], None], roll: Roll = UNTOLD) -> None:
        self.position = Position(self, target, held_max_bytes)
        self.audience = [self.position]
        self.out: list[bytes] = []
        self.gone = False
        self.waiting: dict[Outlet, Callable[[Feed], None]] = {}
        self.overfilled = False
        self._members: dict[Outlet, Hearing] = {}
        self._own: dict[Outlet, Hearing] = {}
        self._held_max_bytes = held_max_bytes
        self._behind = behind
        self._roll = roll
        self._paging = False
        # (index of a frame in `out`, whom it passes by), ascending.
        self._passing: list[tuple[int, str]] = []
        self._written_at = 0

    def __len__(self) -> int:
        """How many sessions hear of the target, or wait to."""
        return len(self._members) + len(self._own) + len(self.waiting)

    @property
    def joined(self) -> int:
        """How many sessions have joined."""
        return len(self._members) + len(self._own)

    @property
    def outlets(self) -> Collection[Outlet]:
        """The sessions that have joined."""
        return [*self._members, *self._own]

    @property
    def head(self) -> int:
        """The highest seq of the target that this node knows of."""
        return self.position.at if self.position.goal is None else self.position.goal

    # -- called by whoever subscribes a session ----------------------------------------------------------------------

    def start(self, head: int) -> None:
        """Begin behind the head, and send nobody what was held meanwhile: nobody was promised anything before it."""
        self.position.start(head)
        self._written_at = self.position.at
        if self.position.goal is not None:
            # What was held, or had expired, shows that there is more than this head knew of.
            self._behind(self.position)

    def empty(self) -> None:
        """Hold anew what comes, for a head that is still to be asked."""
        self.overfilled = False
        self.audience[0] = self.position = Position(self, self.position.target, self._held_max_bytes)

    def join(self, outlet: Outlet, since: int | None) -> Hearing:
        """Have a session hear of what comes, or of all behind `since`. Its own position may be behind: have it caught up."""
        self.waiting.pop(outlet, None)
        hearing = Hearing(self, outlet)
        own = Position(outlet, self.position.target, self._held_max_bytes)
        if since is None:
            own.start(self.head)
        else:
            own.start_after(since, self.head)
        if self._stands_here(own):
            self._members[outlet] = hearing
        else:
            self._part(hearing, own)
        self._roll.came(self, outlet)
        return hearing

    def leave(self, hearing: Hearing) -> None:
        """Have a session hear of the target no more."""
        joined = self._members.pop(hearing.outlet, None)
        if (parted := self._own.pop(hearing.outlet, None)) is not None and hearing.own is not None:
            self.audience.remove(hearing.own)
        if joined is not None or parted is not None:
            self._roll.went(self, hearing.outlet)

    # -- the outlet of the node's position ---------------------------------------------------------------------------

    @property
    def backlog_bytes(self) -> int:
        """Nothing: what waits, waits in the members' own buffers."""
        return 0

    @property
    def names(self) -> Collection[str]:
        """None: it is its members that may be passed by."""
        return ()

    def put(self, frame: bytes, exclude: str) -> None:
        """Put a frame into `out`, and note whom it passes by."""
        if exclude:
            self._passing.append((len(self.out), exclude))
        self.out.append(frame)

    def write(self, data: bytes) -> None:
        """Send frames to every member."""
        # A copy: whose buffer that fills ends, and leaves within the call.
        for outlet in list(self._members):
            outlet.write(data)

    def flush(self) -> int:
        """Send what is in `out` to every member whom it does not pass by, and return how many frames each got, summed up."""
        frames, self.out = self.out, []
        passing, self._passing = self._passing, []
        data = b"".join(frames)
        if self._is_too_much(data):
            self._go_back()
            return 0
        if len(data) > _UNREAD_MAX_BYTES:
            self._part_slow()
        written = len(frames) * len(self._members)
        if passing:
            written -= self._write_passing(data, frames, passing)
        else:
            self.write(data)
        self._settle()
        self._written_at = self.position.at
        return written

    def _write_passing(self, data: bytes, frames: list[bytes], passing: list[tuple[int, str]]) -> int:
        """Send each member the frames that do not pass it by, and return how many were left out."""
        whoms, left_out = {whom for _, whom in passing}, 0
        for outlet in list(self._members):
            if whoms.isdisjoint(outlet.names):
                outlet.write(data)
                continue
            names = outlet.names
            without = {index for index, whom in passing if whom in names}
            left_out += len(without)
            if len(without) < len(frames):
                outlet.write(b"".join([frame for index, frame in enumerate(frames) if index not in without]))
        return left_out

    def overfull(self) -> None:
        """The head does not come: what was held is given up, and the head is to be asked anew."""
        self.overfilled = True

    def unreadable(self) -> None:
        """What the node lacks cannot be read, so that nobody here can go on."""
        for outlet in [*self._members, *self._own]:
            outlet.unreadable()

    def _stands_here(self, own: Position) -> bool:
        return own.goal is None and self.position.goal is None and own.at == self.position.at

    def _part(self, hearing: Hearing, own: Position) -> None:
        hearing.own = own
        self._own[hearing.outlet] = hearing
        self.audience.append(own)

    def _is_too_much(self, data: bytes) -> bool:
        """Tell whether a chunk would fill every buffer, and can be read in pages instead: pages are not."""
        pages, self._paging = self._paging, self._paging and self.position.goal is not None
        live = self.position.goal is None and self.position.at > self._written_at
        return live and not pages and len(data) > self._held_max_bytes

    def _go_back(self) -> None:
        """Have what is behind the last flush read from the inbox."""
        self._paging = True
        self.position.go_back(self._written_at)
        self._behind(self.position)

    def _part_slow(self) -> None:
        """Have those read on by themselves who still have a page to read."""
        slow = [hearing for outlet, hearing in self._members.items() if outlet.backlog_bytes > _UNREAD_MAX_BYTES]
        for hearing in slow:
            del self._members[hearing.outlet]
            own = Position(hearing.outlet, self.position.target, self._held_max_bytes)
            own.start_after(self._written_at, self.head)
            self._part(hearing, own)
            if own.goal is not None:
                self._behind(own)

    def _settle(self) -> None:
        """Make members of those who stand here now."""
        settled = [hearing for hearing in self._own.values() if hearing.own and self._stands_here(hearing.own)]
        for hearing in settled:
            hearing.own = None
            self._members[hearing.outlet] = self._own.pop(hearing.outlet)
        if settled:
            # Anew and not one by one: after a storm they are thousands, and each would be looked for in all of them.
            self.audience[1:] = [hearing.own for hearing in self._own.values() if hearing.own]
