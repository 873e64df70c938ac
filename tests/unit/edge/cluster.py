"""A cluster in a test's hand: everything around one edge and one user, each step of it taken when the test says so.

What is real: the edge's session, position, delivery, catch-up, heads and resync. What is played: collect and MongoDB (`Store`),
Redis between them and the edge (`Wire`), cursors kept by the server, and the user's devices (`Device`), each with the filter of
a client library.

Every frame is held against the one promise the moment it is put out: a session gets what is accepted behind its start, in
the order of seqs, each once, and passes over nothing but what has expired, what passes its device by, and what has a newer one
of its key.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import msgspec

from edge.actions import Action, Actions, FindCursor, MoveCursor, Register, Send
from edge.actions import CatchUp as Behind
from edge.catch_up import CatchUp
from edge.delivery import Delivery
from edge.heads import READERS, Heads
from edge.position import Position
from edge.resync import Resync
from edge.session import Session
from edge.upgrade import SUBPROTOCOL, Upgrade
from router.errors import PushwayError
from router.settings import Settings
from tests.unit.edge.outlets import feed
from tests.unit.edge.played import TARGET, USER, Store, Wire

BUFFER_MAX_BYTES: Final = 2_400
"""Of a connection; about twenty messages. Who has a quarter of it waiting gets no further page."""

_SETTINGS: Final = Settings(send_buffer_soft_bytes=BUFFER_MAX_BYTES, retention_s=10**9, cursor_idle_s=19 * 10**8)
_TURNS: Final = 6
"""How often the event loop goes round for all of catch-up's tasks to come to rest: one wakes another, once."""


class Link:
    """A device's connection: the outlet of one session, and the bytes on their way to the client.

    Args:
        cluster: where it leads.
        query: the client's wishes: a device's name, its `since`, both or none.

    Attributes:
        gone: nothing reaches the client any more.
        session: the real one.
        told: the head, on its way to the session.
        welcomed: the head in the welcome.
        resumes: a cursor was named, or kept.
        begun: the seq behind which the session began.
        at: the last seq put out, or where it began.
        caught_up: how many frames said so.
    """

    def __init__(self, cluster: Cluster, query: dict[str, str]) -> None:
        self.out: list[bytes] = []
        self.gone = False
        self.session = Session(_SETTINGS, "edge-1.0", self)
        self.told: int | None = None
        self.welcomed: int | None = None
        self.resumes = bool(query)
        self.at = int(query.get("since", "0"))
        self.begun = self.at
        self.caught_up = 0
        self._query = query
        self._cluster = cluster
        self._head = 0
        self._sent: deque[bytes] = deque()

    @property
    def position(self) -> Position:
        """Its place in the user's order."""
        assert self.session.position is not None
        return self.session.position

    @property
    def backlog_bytes(self) -> int:
        """How much waits for the client to read it."""
        return sum(map(len, self._sent))

    def open(self) -> None:
        """Come as far as the route."""
        self._act(self.session.upgraded(Upgrade("t", self._query, (SUBPROTOCOL,))))
        self._act(self.session.verified(USER, 60.0))

    def registered(self, head: int | None) -> None:
        """Take what Redis, or else MongoDB, has told of the head; end when neither could."""
        if head is None:
            self.end()
        elif self.welcomed is None and not self.gone:
            self._head = head
            self.begun = self.at = self.at if self.resumes else head
            self._act(self.session.registered(head))
            self._act(self.session.heard(self._cluster.everyone))

    def ack(self, seq: int) -> None:
        """Take the client's word for what it has."""
        self._act(self.session.text(b'{"type":"ack","seq":%d}' % seq))

    @property
    def names(self) -> Sequence[str]:
        """What its session is called."""
        return self.session.names

    def put(self, frame: bytes, exclude: str) -> None:
        """Put out what does not pass it by."""
        if exclude not in self.names:
            self.out.append(frame)

    def flush(self) -> int:
        """Put the frames of the chunk on their way."""
        count, data = len(self.out), b"".join(self.out)
        self.out.clear()
        self.write(data)
        return count

    def write(self, data: bytes) -> None:
        """Put frames on their way."""
        if not self.gone:
            self._send(data)

    def overfull(self) -> None:
        """End: more waits for the head than may."""
        self.end()

    def unreadable(self) -> None:
        """No page here is of another make."""
        raise AssertionError("a page was refused")

    def end(self) -> None:
        """The connection is gone."""
        self.gone = True
        self._cluster.left(self)

    def read(self, count: int) -> list[dict[str, Any]]:
        """Return the next frames that the client reads."""
        return [msgspec.json.decode(self._sent.popleft()) for _ in range(min(count, len(self._sent)))]

    def _act(self, actions: Actions) -> None:
        for action in actions:
            self._carry_out(action)

    def _carry_out(self, action: Action) -> None:
        match action:
            case Send(data):
                self._send(data)
            case Register():
                self._cluster.audience.append(self.position)
            case FindCursor(begin_at):
                for key, seq in begin_at.items():
                    if key.target == TARGET:
                        self.begun = self._cluster.cursors.setdefault(key.device, seq)
                        # Behind a stale head the session repeats what the device has: whether the cursor is a message's is not
                        # known.
                        self.at = min(self.begun, self._head)
                self._act(self.session.resumed({**begin_at, key._replace(target=TARGET): self.begun}))
            case MoveCursor(key, seq):
                self._cluster.moved[key.device] = seq
            case Behind(position, announce):
                self._cluster.catch_up.ask(position, announce=announce)

    def _send(self, data: bytes) -> None:
        for payload in _payloads(data):
            self._hold_against_promise(msgspec.json.decode(payload))
            self._sent.append(payload)
        if self.backlog_bytes > BUFFER_MAX_BYTES and not self.gone:
            self.end()  # a slow consumer: what it has not read is lost with the connection

    def _hold_against_promise(self, frame: dict[str, Any]) -> None:
        kind, lacking = frame["type"], self._cluster.store.lacking
        assert (kind == "welcome") == (self.welcomed is None), f"{kind} first, or a second welcome"
        if kind == "welcome":
            self.welcomed = frame["seq"]
        elif kind == "caught_up":
            self.caught_up += 1
            assert frame["seq"] >= self.at
            assert lacking(self.at, max(frame["seq"], self.welcomed or 0), self.names) == [], "not caught up"
        elif kind == "message" and "seq" in frame:
            (message,) = (one for one in self._cluster.store.accepted if one.seq == frame["seq"])
            assert message.exclude not in self.names, f"{frame['seq']} was to pass by"
            assert frame["seq"] > self.at, f"{frame['seq']} after {self.at}"
            assert lacking(self.at, frame["seq"] - 1, self.names) == [], f"a gap between {self.at} and {frame['seq']}"
            self.at = frame["seq"]
        elif kind == "message":
            assert frame["text"] not in self.names, "what is transient was to pass by"


@dataclass(slots=True)
class Device:
    """One of the user's devices, with a client library on it.

    Attributes:
        name: under which the server keeps its cursor; "" for one that keeps its own.
        began: the seq behind which it is owed everything; None until it knows.
        link: its connection.
        taken: every seq that the application got, in order.
    """

    name: str
    began: int | None = None
    link: Link | None = None
    taken: list[int] = field(default_factory=list)

    @property
    def connected(self) -> bool:
        """Whether anything can still reach it."""
        return self.link is not None and not self.link.gone

    def connect(self, cluster: Cluster, back: int) -> None:
        """Open a connection, behind the last message that it has or, with an older cursor, before it."""
        self.link = Link(cluster, {"device": self.name} if self.name else self._since(back))
        self.link.open()

    def read(self, count: int) -> None:
        """Take the next frames, and drop what the application has."""
        assert self.link is not None
        for frame in self.link.read(count):
            if frame["type"] == "welcome" and self.began is None:
                self.began = self.link.begun
            if frame["type"] == "message" and "seq" in frame and frame["seq"] > (self.taken or [self.began or 0])[-1]:
                self.taken.append(frame["seq"])

    def _since(self, back: int) -> dict[str, str]:
        if self.began is None:
            return {}
        cursors = [self.began, *self.taken]
        return {"since": str(cursors[max(0, len(cursors) - 1 - back)])}


class _NoOutages:
    """In the place of `router.outage.Outages`: catch-up tries again when it is its turn."""

    async def wait(self, server: str, exc: Exception) -> None:
        """Let the others have a turn."""
        del server, exc
        await asyncio.sleep(0)

    def over(self) -> None:
        """Note nothing."""


class Cluster:
    """All of it.

    Attributes:
        store: collect and MongoDB.
        wire: Redis.
        audience: the positions of all sessions on the edge.
        cursors: those kept by the server, which are durable.
        moved: those that the edge has not written yet.
    """

    def __init__(self) -> None:
        self.store = Store()
        self.wire = Wire()
        self.everyone = feed()
        self.audience: list[Position] = []
        self.cursors: dict[str, int] = {}
        self.moved: dict[str, int] = {}
        inbox: Any = self.store
        outages: Any = _NoOutages()
        reading = anyio.CapacityLimiter(READERS)
        self.heads = Heads(inbox, reading, outages)
        # Time stands still, so no replay rests: what happens is for the steps alone to decide.
        self.catch_up = CatchUp(inbox, reading, _SETTINGS, outages, clock=lambda: 0.0)
        self.delivery = Delivery({TARGET.encode(): self.audience}, self.catch_up.ask)
        self.resync = Resync(lambda _user: list(self.audience), self.heads.ask, self.catch_up.ask)
        self._loop = asyncio.new_event_loop()
        self._reading = [self._loop.create_task(part.run()) for part in (self.heads, self.catch_up)]

    def left(self, link: Link) -> None:
        """Forget a session."""
        self.catch_up.forget(link.position)
        if link.position in self.audience:
            self.audience.remove(link.position)

    def receive(self, count: int) -> None:
        """Let the edge read so many published lines, as one payload."""
        channel = self.wire.channel
        lines = [channel.popleft() for _ in range(min(count, len(channel)))]
        if lines:
            self.delivery.receive([b"\n".join(lines)])

    def turn(self) -> None:
        """Let the edge come to rest: at a query, or without work."""
        self._loop.run_until_complete(_turns())
        for task in self._reading:
            if task.done():
                task.result()

    def close(self) -> None:
        """End the edge's tasks."""
        for task in self._reading:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._reading, return_exceptions=True))
        self._loop.close()


class Unread(PushwayError):
    """A bound of the test: it does not come to rest."""


def until(condition: Callable[[], bool], step: Callable[[], None]) -> None:
    """Take a step again and again until the condition holds.

    Raises:
        Unread: when it never does.
    """
    for _ in range(2_000):
        if condition():
            return
        step()
    raise Unread


async def _turns() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)


def _payloads(data: bytes) -> Iterator[bytes]:
    """Yield the payloads of text frames, which are short here (RFC 6455 section 5.2)."""
    while data:
        size, first = (int.from_bytes(data[2:4], "big"), 4) if data[1] == 126 else (data[1], 2)
        yield data[first : first + size]
        data = data[first + size :]
