"""edge.watches: every watcher's view is the union of what the nodes have, whatever gets lost on the way, once it is quiet."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge.frames import Error, Joined, Left, Members, ServerFrame
from edge.members import Telling, Told, Watched
from edge.watches import JOIN_S, SETTLE_S, Saying, Watches

LEASE_S = 60.0
NODE_S = 7.0
MOST = 5


def watches(most: int = MOST) -> Watches[str]:
    """Return the watches of node `me`."""
    return Watches("me", LEASE_S, NODE_S, most)


def members(*users: str) -> Members:
    """Return the frame."""
    return Members("t", [*users])


def test_members_are_told_when_all_have_answered() -> None:
    """Once, with everybody."""
    some = watches()
    some.begin("t", "w", 0.0)
    assert some.asks(0.0) == [Watched("t", "me")]
    assert some.awaited("t", 2, 0.1) == []
    assert some.hear(Told("t", "me", ["ann"]), 0.1) == []
    assert some.hear(Told("t", "other", ["ann", "bob"]), 0.2) == [Saying(("w",), (members("ann", "bob"),))]


def test_an_answer_may_come_before_the_count() -> None:
    """They take different ways."""
    some = watches()
    some.begin("t", "w", 0.0)
    some.hear(Told("t", "me", ["ann"]), 0.1)
    assert some.awaited("t", 1, 0.1) == [Saying(("w",), (members("ann"),))]


def test_who_does_not_answer_is_not_waited_for_long() -> None:
    """A tap, or an edge that has just died."""
    some = watches()
    some.begin("t", "w", 0.0)
    some.awaited("t", 9, 0.1)
    some.hear(Told("t", "me", ["ann"]), 0.1)
    assert some.pass_time(SETTLE_S - 0.01) == []
    assert some.pass_time(SETTLE_S) == [Saying(("w",), (members("ann"),))]


def settled(*users: str) -> Watches[str]:
    """Return the watches of a node where `w` has been told that these are at `other`."""
    some = watches()
    some.begin("t", "w", 0.0)
    some.asks(0.0)
    some.awaited("t", 1, 0.0)
    some.hear(Told("t", "other", [*users]), 0.0)
    return some


def test_a_user_on_two_nodes_joins_once_and_leaves_once() -> None:
    """It is users that come and go, not sessions."""
    some = settled()
    assert some.hear(Told("t", "other", joined=["ann"]), 1.0) == [Saying(("w",), (Joined("t", "ann"),))]
    assert some.hear(Told("t", "third", ["ann"]), 1.0) == []
    assert some.hear(Told("t", "other", left=["ann"]), 1.0) == []
    assert some.hear(Told("t", "third", []), 1.0) == [Saying(("w",), (Left("t", "ann"),))]


def test_one_who_begins_later_is_told_a_moment_later() -> None:
    """And hears of changes from then on."""
    some = settled("ann")
    some.begin("t", "late", 5.0)
    assert some.hear(Told("t", "other", joined=["bob"]), 5.1) == [Saying(("w",), (Joined("t", "bob"),))]
    assert some.pass_time(5.0 + JOIN_S) == [Saying(("late",), (members("ann", "bob"),))]
    assert some.hear(Told("t", "other", left=["bob"]), 6.0) == [Saying(("w", "late"), (Left("t", "bob"),))]


def test_an_unknown_node_is_asked() -> None:
    """Changes without a base say nothing; one that greets is to know that somebody watches."""
    some = settled()
    assert some.hear(Told("t", "new", joined=["ann"]), 0.5) == []
    assert some.asks(0.5) == [Watched("t", "me", ["new"])]
    some.hear(Told("t", "newer", ["bob"], new=True), 0.6)
    assert some.asks(0.6) == [Watched("t", "me", ["newer"])]
    assert some.asks(0.7) == []


def test_questions_are_repeated_ever_more_rarely() -> None:
    """At last as often as routes are renewed."""
    some = settled()
    times = [step / 4 for step in range(1, 4 * 120) if some.asks(step / 4)]
    assert times == [1.0, 3.0, 7.0, 15.0, 31.0, 51.0, 71.0, 91.0, 111.0]


def test_the_users_of_a_dead_node_leave() -> None:
    """Not of one that was heard a moment ago: its first heartbeat may be on its way."""
    some = settled("ann")
    assert some.alive(["t"], ["me"], NODE_S - 0.1) == []
    assert some.alive(["t"], ["me", "other"], NODE_S) == []
    assert some.alive(["t"], ["me"], NODE_S) == [Saying(("w",), (Left("t", "ann"),))]


def test_a_node_that_tells_nothing_for_a_lease_has_nobody() -> None:
    """Its last word may have been lost."""
    some = settled("ann")
    assert some.pass_time(LEASE_S - 0.1) == []
    assert some.pass_time(LEASE_S) == [Saying(("w",), (Left("t", "ann"),))]


def test_after_a_loss_all_is_told_anew() -> None:
    """What was known may be wrong, and nothing is said of it meanwhile."""
    some = settled("ann")
    some.begin_anew(100.0)
    assert some.asks(100.0) == [Watched("t", "me")]
    assert some.hear(Told("t", "other", ["bob"]), 100.1) == []
    assert some.awaited("t", 1, 100.1) == [Saying(("w",), (members("bob"),))]


def test_too_many_end_the_watch() -> None:
    """All watchers are told, those who wait too; then nothing is known of the topic."""
    some = settled("a", "b", "c", "d", "e")
    some.begin("t", "late", 1.0)
    (saying,) = some.hear(Told("t", "other", joined=["f"]), 1.0)
    assert saying.watchers == ("w", "late")
    (error,) = saying.frames
    assert isinstance(error, Error)
    assert error.code == "too_many_members"
    assert some.hear(Told("t", "other", left=["f"]), 1.1) == []
    assert not some.topics


def test_nothing_is_kept_without_watchers() -> None:
    """The last one takes all with it."""
    some = settled("ann")
    some.end("t", "nobody")
    assert some.next_s() < float("inf")
    some.end("t", "w")
    assert not some.topics
    assert some.next_s() == float("inf")


class Edge:
    """One node with both halves, and its watchers' views, kept as clients do."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sessions: list[tuple[str, str]] = []
        self.telling = Telling(name, self.users_of, LEASE_S, MOST)
        self.watches = Watches[str](name, LEASE_S, NODE_S, MOST)
        self.views: dict[str, set[str] | None] = {}
        self.inbox: list[Told | Watched] = []

    def users_of(self, topic: str) -> set[str]:
        """Return the users here."""
        assert topic == "t"
        return {user for user, _ in self.sessions}

    def say(self, sayings: list[Saying[str]]) -> None:
        """Have clients told, and hold each frame against what they know."""
        for saying in sayings:
            for watcher in saying.watchers:
                for frame in saying.frames:
                    self.views[watcher] = _seen(self.views[watcher], frame)


def _seen(view: set[str] | None, frame: ServerFrame) -> set[str] | None:
    match frame:
        case Members(_, users):
            return {*users}
        case Joined(_, user):
            assert view is not None
            assert user not in view
            return view | {user}
        case Left(_, user):
            assert view is not None
            assert user in view
            return view - {user}
    raise AssertionError(frame)


class WatchesMachine(RuleBasedStateMachine):
    """Some edges on one topic. Lines of a node reach an edge in order, or not at all."""

    @initialize()
    def start(self) -> None:
        """Nobody is there."""
        self.now_s = 0.0
        self.count = 0
        self.edges = [Edge(name) for name in ("a", "b", "c")]

    @rule(edge=st.integers(0, 2), user=st.sampled_from(["ann", "bob", "carol", "dan"]), watches=st.booleans())
    def come(self, edge: int, user: str, watches: bool) -> None:
        """A session subscribes, and watches or does not."""
        self.count += 1
        at, session = self.edges[edge], f"s{self.count}"
        at.sessions.append((user, session))
        at.telling.changed("t", first=len(at.sessions) == 1)
        if watches:
            at.views[session] = None
            at.watches.begin("t", session, self.now_s)

    @rule(edge=st.integers(0, 2), data=st.data())
    def go(self, edge: int, data: st.DataObject) -> None:
        """A session leaves."""
        at = self.edges[edge]
        if at.sessions:
            user, session = data.draw(st.sampled_from(at.sessions))
            at.sessions.remove((user, session))
            at.views.pop(session, None)
            at.watches.end("t", session)
            at.telling.changed("t")

    @rule(edge=st.integers(0, 2), lost=st.sets(st.integers(0, 2)), fails=st.booleans())
    def publish(self, edge: int, lost: set[int], fails: bool) -> None:
        """An edge publishes what is due; some do not hear it, or Redis does not take it."""
        at = self.edges[edge]
        at.say(at.watches.pass_time(self.now_s))
        lines: list[Told | Watched] = [*at.telling.take(self.now_s), *at.watches.asks(self.now_s)]
        for line in lines:
            hearers = [other for other in self.edges if other.sessions]
            for number, other in enumerate(self.edges):
                if other in hearers and number not in lost:
                    other.inbox.append(line)
            if isinstance(line, Told):
                if fails:
                    at.telling.untold(line.topic)
            elif fails:
                at.watches.unasked(line.topic, self.now_s)
            elif line.of is None:
                at.say(at.watches.awaited(line.topic, len(hearers), self.now_s))

    @rule(edge=st.integers(0, 2), most=st.integers(1, 5))
    def hear(self, edge: int, most: int) -> None:
        """An edge takes in some lines."""
        at = self.edges[edge]
        lines, at.inbox = at.inbox[:most], at.inbox[most:]
        for line in lines:
            if isinstance(line, Watched):
                at.telling.watched(line, self.now_s)
            else:
                at.say(at.watches.hear(line, self.now_s))

    @rule(edge=st.integers(0, 2))
    def lose(self, edge: int) -> None:
        """An edge loses its subscription, and all on the way to it, and begins anew."""
        self.edges[edge].inbox.clear()
        self.edges[edge].watches.begin_anew(self.now_s)

    @rule(seconds=st.sampled_from([0.1, 0.5, 5.0, 30.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now_s += seconds

    @rule()
    def quiet(self) -> None:
        """Nobody comes, nothing is lost, and heartbeats are seen; then every view is the union."""
        for _ in range(int(2 * LEASE_S)):
            self.now_s += 1.0
            for number in (0, 1, 2) * 2:
                self.publish(number, set(), False)
                for hearer in range(3):
                    self.hear(hearer, 1_000)
            for edge in self.edges:
                edge.say(edge.watches.alive(["t"], [other.name for other in self.edges], self.now_s))
        union = {user for edge in self.edges for user, _ in edge.sessions}
        for edge in self.edges:
            assert all(view == union for view in edge.views.values())

    @invariant()
    def bounded(self) -> None:
        """No more is kept than somebody is there for."""
        for edge in getattr(self, "edges", []):
            assert len(edge.telling) <= 1
            assert bool(edge.watches.topics) == bool(edge.views)


WatchesMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30)
TestWatchesMachine = WatchesMachine.TestCase
