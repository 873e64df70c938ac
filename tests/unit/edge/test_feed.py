"""edge.feed: what many hear is judged once, and each whom it does not pass by gets all of it, in order, each once."""

from __future__ import annotations

import re
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from prometheus_client import REGISTRY

from edge.delivery import Delivery
from edge.feed import Feed, Hearing
from edge.frames import text_frame
from edge.position import Outlet, Position, Verdict
from edge.resync import compare
from router.lines import build_line

TARGET = "topic:news"
LARGE = 40_000
"""Bytes of a frame of which two are much at once."""


BUFFER_MAX_BYTES = 100_000
"""Which takes two such frames."""

PHONE = "device:ann,phone"

WHOM = st.sampled_from(["", PHONE, "session:0"])


class Client:
    """A session's outlet and its client: keeps what it is written, as seqs."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.out: list[bytes] = []
        self.seqs: list[int] = []
        self.backlog_bytes = 0
        self.gone = False
        self.ended = False

    def put(self, frame: bytes, exclude: str) -> None:
        """Put out what does not pass it by."""
        if exclude not in self.names:
            self.out.append(frame)

    def write(self, data: bytes) -> None:
        """Read the frames, each a seq in a field of its own width."""
        self.seqs += map(int, re.findall(rb"<([0-9]+)\.*>", data))

    def flush(self) -> int:
        """Write what is out."""
        count = len(self.out)
        self.write(b"".join(self.out))
        self.out.clear()
        return count

    def overfull(self) -> None:
        """End."""
        self.ended = True

    unreadable = overfull


class Told:
    """A roll that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Outlet, int]] = []

    def came(self, feed: Feed, outlet: Outlet) -> None:
        """Keep it, with how many are there."""
        self.told.append(("came", outlet, len(feed.outlets)))

    def went(self, feed: Feed, outlet: Outlet) -> None:
        """Keep it likewise."""
        self.told.append(("went", outlet, len(feed.outlets)))


def test_the_roll_is_told_of_who_joins_and_leaves() -> None:
    """Each once, wherever the session stands; who leaves twice has left once."""
    roll, now, behind = Told(), Client(), Client()
    feed = Feed(TARGET, BUFFER_MAX_BYTES, lambda _: None, roll)
    feed.start(9)
    hearings = [feed.join(now, None), feed.join(behind, 3)]
    for hearing in [*hearings, *hearings]:
        feed.leave(hearing)
    assert roll.told == [("came", now, 1), ("came", behind, 2), ("went", now, 1), ("went", behind, 0)]


def frame_of(seq: int, *, large: bool = False) -> str:
    """Return a frame that a `Client` can read."""
    return f"<{seq}".ljust(LARGE if large else 4, ".") + ">"


class Node:
    """Delivery, and catch-up of one target, step by step; MongoDB is the list of what was accepted.

    Attributes:
        accepted: seq → frame.
        excluded: seq → whom it passes by, where anybody.
    """

    def __init__(self, head: int = 0) -> None:
        self.accepted: dict[int, str] = {}
        self.excluded: dict[int, str] = {}
        self.behind: dict[Position, None] = {}
        self.feed = Feed(TARGET, BUFFER_MAX_BYTES, self.catch_up)
        self.feed.start(head)
        self.delivery = Delivery({TARGET.encode(): self.feed.audience}, self.catch_up)
        self.top = head

    def catch_up(self, position: Position) -> None:
        """Have a position read on."""
        self.behind[position] = None

    def accept(self, *, large: bool = False, exclude: str = "") -> str:
        """Store a message, and return its line."""
        prev, self.top = self.top, self.top + 1
        self.accepted[self.top] = frame_of(self.top, large=large)
        if exclude:
            self.excluded[self.top] = exclude
        return build_line(TARGET, prev, self.top, None, self.accepted[self.top], exclude=exclude)

    def deliver(self, *lines: str) -> None:
        """Deliver a chunk."""
        self.delivery.receive(["\n".join(lines).encode()])

    def owed(self, client: Client, began: int) -> list[int]:
        """Return what a client is to have that began behind a seq."""
        return [seq for seq in self.accepted if began < seq and self.excluded.get(seq) not in client.names]

    def join(self, since: int | None, *names: str) -> tuple[Client, Hearing]:
        """Have a client join, and read on if it is behind."""
        client = Client(*names)
        hearing = self.feed.join(client, since)
        if hearing.own is not None and hearing.own.goal is not None:
            self.catch_up(hearing.own)
        return client, hearing

    def read_page(self, most: int) -> None:
        """Read a page for whoever waits longest."""
        position = next(iter(self.behind))
        del self.behind[position]
        outlet, goal = position.outlet, position.goal
        if outlet.gone or goal is None:
            return
        page = [seq for seq in self.accepted if position.at < seq <= goal][:most]
        whole = len(page) < most
        due = [(text_frame(self.accepted[seq].encode()), self.excluded.get(seq, "")) for seq in page]
        position.read(max([position.at, *page]))
        if whole:
            due += position.arrive(goal)
        for frame, exclude in due:
            outlet.put(frame, exclude)
        if outlet.out:
            outlet.flush()
        if position.goal is not None:
            self.catch_up(position)

    def settle(self) -> None:
        """Compare heads as after a loss, and read until nobody is behind."""
        compare(self.feed.audience, self.top, self.catch_up)
        while self.behind:
            self.read_page(2)


def test_one_judgement_for_all() -> None:
    """Members get what the node's position lets through, joined; who comes later has what came later."""
    node = Node()
    (ann, _), (bob, _) = node.join(None), node.join(None)
    first, second = node.accept(), node.accept()
    node.deliver(first, second)
    late, _ = node.join(None)
    node.deliver(node.accept())
    assert (ann.seqs, bob.seqs, late.seqs) == ([1, 2, 3], [1, 2, 3], [3])
    assert node.feed.audience == [node.feed.position]
    assert len(node.feed) == 3


def test_a_client_that_comes_back_reads_by_itself_and_then_joins() -> None:
    """Its own position is there until it stands where the feed does; nobody else notices."""
    node = Node()
    ann, _ = node.join(None)
    node.deliver(node.accept(), node.accept())
    back, hearing = node.join(0)
    assert (hearing.at, node.feed.audience) == (0, [node.feed.position, hearing.own])
    node.deliver(node.accept())
    while node.behind:
        node.read_page(2)
    assert (back.seqs, hearing.at) == ([1, 2, 3], 3)
    node.deliver(node.accept())
    assert node.feed.audience == [node.feed.position]
    assert back.seqs == ann.seqs == [1, 2, 3, 4]


def test_what_the_node_missed_is_read_once() -> None:
    """One gap, one reader, and every member has it."""
    node = Node()
    clients = [node.join(None)[0] for _ in range(5)]
    node.accept()
    node.deliver(node.accept())
    assert list(node.behind) == [node.feed.position]
    while node.behind:
        node.read_page(2)
    assert [client.seqs for client in clients] == [[1, 2]] * 5


def test_who_has_left_hears_nothing() -> None:
    """A member, and one with a position of its own."""
    node = Node()
    node.deliver(node.accept())
    (member, in_feed), (reader, by_itself) = node.join(None), node.join(0)
    node.feed.leave(in_feed)
    node.feed.leave(by_itself)
    node.deliver(node.accept())
    assert (member.seqs, reader.seqs) == ([], [])
    assert (len(node.feed), node.feed.audience) == (0, [node.feed.position])


def test_a_client_that_ends_while_it_is_written_to() -> None:
    """Whose buffer a message fills leaves within the write; everybody else has that message, and those behind it."""

    class Full(Client):
        def write(self, data: bytes) -> None:
            del data
            node.feed.leave(hearing)

    node, full = Node(), Full()
    before, _ = node.join(None)
    hearing = node.feed.join(full, None)
    behind, _ = node.join(None)
    node.deliver(node.accept())
    node.deliver(node.accept())
    assert before.seqs == behind.seqs == [1, 2]
    assert (full.seqs, len(node.feed)) == ([], 2)


def test_a_slow_client_is_sent_no_more_than_it_takes() -> None:
    """Much at once goes to those who have read what came before; the slow one reads on from the inbox, and loses nothing."""
    node = Node()
    (slow, hearing), (quick, _) = node.join(None), node.join(None)
    node.deliver(node.accept())
    slow.backlog_bytes = 100_000
    node.deliver(node.accept(large=True), node.accept(large=True))
    assert (slow.seqs, quick.seqs) == ([1], [1, 2, 3])
    assert list(node.behind) == [hearing.own]
    slow.backlog_bytes = 0
    while node.behind:
        node.read_page(5)
    node.deliver(node.accept())
    assert slow.seqs == quick.seqs == [1, 2, 3, 4]


def test_a_chunk_that_no_buffer_takes() -> None:
    """Is read for all members, a page at a time, however large the pages are; what comes meanwhile follows."""
    node = Node()
    (ann, _), (bob, hearing) = node.join(None), node.join(None)
    node.deliver(node.accept())
    node.deliver(*[node.accept(large=True) for _ in range(6)])
    assert (ann.seqs, list(node.behind), hearing.at) == ([1], [node.feed.position], 1)
    late, _ = node.join(None)
    node.read_page(2)
    assert ann.seqs == [1, 2, 3]
    bob.backlog_bytes = 100_000
    node.read_page(5)
    assert (ann.seqs, bob.seqs) == ([1, 2, 3, 4, 5, 6, 7], [1, 2, 3])
    node.deliver(node.accept())
    node.settle()
    assert ann.seqs == bob.seqs == [1, 2, 3, 4, 5, 6, 7, 8]
    assert late.seqs == [8]


def test_too_much_before_the_head() -> None:
    """It is not held for ever, and a head of that time does not count."""
    feed = Feed(TARGET, 10, lambda _: None)
    assert feed.position.take(0, 1, b"x" * 11) is Verdict.OVERFULL
    feed.overfull()
    assert feed.overfilled
    feed.empty()
    assert feed.position.take(1, 2, b"x") is Verdict.HELD
    feed.start(2)
    assert (feed.head, feed.overfilled, feed.audience) == (2, False, [feed.position])


def test_unreadable() -> None:
    """What cannot be read ends the sessions, since none of them can go on."""
    node = Node(3)
    (member, _), (reader, _) = node.join(None), node.join(1)
    node.feed.unreadable()
    assert member.ended
    assert reader.ended


def test_whom_a_message_passes_by() -> None:
    """Of a chunk it gets the rest, in order; everybody else, all of it; and all stand at the same place."""
    node = Node()
    (phone, here), (desk, there) = node.join(None, "session:1", PHONE), node.join(None, "session:2", "device:ann,desk")
    before = _delivered()
    node.deliver(node.accept(), node.accept(exclude=PHONE), node.accept(exclude="session:2"), node.accept(exclude="session:9"))
    node.deliver(node.accept(exclude="session:1"))
    assert phone.seqs == [1, 3, 4]
    assert desk.seqs == [1, 2, 4, 5]
    assert here.at == there.at == node.feed.head == 5
    assert _delivered() - before == 3 + 4


def test_passed_by_although_it_was_missed() -> None:
    """Neither of a page nor of what came live behind it; nor by a session that reads by itself."""
    node = Node()
    (phone, here), (desk, _) = node.join(None, PHONE), node.join(None)
    node.accept(exclude=PHONE)
    node.deliver(node.accept(), node.accept(exclude=PHONE))
    back, own = node.join(0, PHONE)
    while node.behind:
        node.read_page(1)
    node.deliver(node.accept(exclude=PHONE), node.accept())
    assert (phone.seqs, desk.seqs, back.seqs) == ([2, 5], [1, 2, 3, 4, 5], [2, 5])
    assert here.at == own.at == 5


def test_what_is_read_in_pages_is_not_counted_as_delivered() -> None:
    """A chunk that no buffer takes counts when it is read; so it is counted once."""
    node = Node()
    node.join(None)
    before = _delivered()
    node.deliver(*[node.accept(large=True) for _ in range(6)])
    assert _delivered() == before


def _delivered() -> float:
    return REGISTRY.get_sample_value("pushway_delivered_total") or 0.0


class FeedMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order: each session is put out what follows its start and does not pass it by.

    All of that, in order, each once; and each stands where all others stand.
    """

    @initialize(head=st.integers(0, 3))
    def begin(self, head: int) -> None:
        """Start."""
        self.node = Node(head)
        self.sessions: list[tuple[Client, Hearing, int]] = []
        self.late: list[Any] = []

    @rule(large=st.booleans(), excludes=st.lists(WHOM, min_size=1, max_size=4))
    def publish(self, excludes: list[str], *, large: bool) -> None:
        """Messages come."""
        self.node.deliver(*[self.node.accept(large=large, exclude=exclude) for exclude in excludes])

    @rule(keep=st.booleans(), exclude=WHOM)
    def miss(self, exclude: str, *, keep: bool) -> None:
        """One does not come, or comes again much later."""
        line = self.node.accept(exclude=exclude)
        self.late += [line] if keep else []

    @rule()
    def come_late(self) -> None:
        """Dispatch publishes once more what it had."""
        if self.late:
            self.node.deliver(self.late.pop())

    @rule(since=st.none() | st.integers(0, 30), device=WHOM)
    def join(self, since: int | None, device: str) -> None:
        """A session begins; a cursor is never above what was accepted."""
        since = None if since is None else min(since, self.node.top)
        client, hearing = self.node.join(since, *filter(None, [f"session:{len(self.sessions)}", device]))
        self.sessions.append((client, hearing, hearing.at))

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A session ends."""
        if self.sessions:
            one = data.draw(st.sampled_from(self.sessions))
            self.sessions.remove(one)
            one[0].gone = True
            self.node.feed.leave(one[1])

    @rule(data=st.data())
    def dawdle(self, data: st.DataObject) -> None:
        """A client stops reading, or has read."""
        if self.sessions:
            client, _, _ = data.draw(st.sampled_from(self.sessions))
            client.backlog_bytes = 0 if client.backlog_bytes else 1_000_000

    @rule(most=st.integers(1, 4))
    def read(self, most: int) -> None:
        """Catch-up reads a page."""
        if self.node.behind:
            self.node.read_page(most)

    @rule()
    def settle(self) -> None:
        """After a loss, and all reading: everybody has everything."""
        self.node.settle()
        for client, hearing, began in self.sessions:
            assert hearing.at == self.node.top
            assert client.seqs == self.node.owed(client, began)

    @invariant()
    def in_order_each_once(self) -> None:
        """No session is put out anything but what follows what it has."""
        for client, hearing, began in getattr(self, "sessions", []):
            expected = self.node.owed(client, began)
            assert client.seqs == expected[: len(client.seqs)]
            assert hearing.at >= max([began, *client.seqs])


FeedMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestFeed = FeedMachine.TestCase
