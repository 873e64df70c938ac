"""The session core under any interleaving of accept, publish, lose, repeat, recover, resync, replay, read and reconnect.

Whatever happens in whatever order, the same sequence is delivered: see `tests.unit.edge.cluster`, which holds every frame
against the promise, and `teardown` here, which ends each run and then holds the whole against it.
"""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pymongo.errors import AutoReconnect

from edge import catch_up, position
from router.lines import build_line
from tests.unit.edge.cluster import Cluster, Device, Link, until
from tests.unit.edge.played import BUT_DESK, DESK, LONG, TARGET, USER, Accepted

COUNTS = st.integers(1, 6)
STEPS = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.sampled_from(["", BUT_DESK]),
        st.sampled_from(["", "", "score", "price"]),
        st.sampled_from([LONG, LONG, 5, 1]),
    ),
    min_size=1,
    max_size=5,
)
"""How far the seqs of new messages lie apart, whom each passes by, its key, and how long it lives."""

Steps = list[tuple[int, str, str, int]]

BACK = st.integers(0, 8)
"""How many messages back from the newest."""

TAIL_MAX_BYTES = 300
"""About three messages: to be passed often, as the true bound is by few."""


def devices(which: Callable[[SessionMachine], list[Device]]) -> st.SearchStrategy[Device]:
    """Return a strategy for the machine's devices that are in some state, of which there is one at least."""
    return st.runner().flatmap(lambda machine: st.sampled_from(which(machine)))


class SessionMachine(RuleBasedStateMachine):
    """One user's devices on one edge, which loses Redis, MongoDB and clients."""

    def __init__(self) -> None:
        super().__init__()
        self._patches = [
            patch.object(position, "_TAIL_MAX_BYTES", TAIL_MAX_BYTES),
            patch.object(catch_up, "_LOOK_AGAIN_S", 0),
        ]
        for one in self._patches:
            one.start()
        self.cluster = Cluster()
        self.store, self.wire = self.cluster.store, self.cluster.wire
        # The first two keep their cursors themselves; one wants all there is, one what comes from now on.
        self.devices = [Device(""), Device("", began=0), Device(DESK)]
        self.heads: list[tuple[int | None, int]] = []
        """(head, how many losses came before it was read) of each that has not been compared yet."""
        self.losses = 0
        self.compared = 0
        """How many losses have been made good by a resync."""
        self.ending = ""

    @property
    def apart(self) -> list[Device]:
        """The devices without a connection."""
        return [device for device in self.devices if not device.connected]

    @property
    def joining(self) -> list[Link]:
        """The connections without a welcome."""
        return [link for link in self.links if link.welcomed is None]

    @property
    def links(self) -> list[Link]:
        """All connections."""
        return [device.link for device in self.devices if device.link is not None and not device.link.gone]

    @initialize(ending=st.sampled_from(["no more than needed", "resync", "resync without a head", "recovery"]), steps=STEPS)
    def begin(self, ending: str, steps: Steps) -> None:
        """There are messages already, and sessions.

        `ending` is what brings everybody to the end. With "no more than needed" that is no resync at all where there was one
        after the last loss, so that it has to have been enough; Redis never tells a stale head in such a run.
        """
        self.ending = ending
        self.publish(steps)
        self.join_all()

    # -- collect, MongoDB, dispatch ----------------------------------------------------------------------------------

    @rule(steps=STEPS)
    def accept(self, steps: Steps) -> None:
        """Messages are stored; nobody is told yet."""
        for step, exclude, collapse, ttl in steps:
            self.store.accept(step, exclude, collapse, ttl)

    @precondition(lambda self: self.store.top > self.wire.handed)
    @rule(count=COUNTS)
    def hand_on(self, count: int) -> None:
        """What is stored goes into `out`, each line naming the one before it."""
        for one in self.store.between(self.wire.handed, self.store.top)[:count]:
            self.wire.append(one, one.before)

    @precondition(lambda self: self.wire.handed)
    @rule(back=BACK, count=COUNTS, unused=st.booleans())
    def append_again(self, back: int, count: int, unused: bool) -> None:
        """A repeated id, or recovery (whose lines name a seq as `prev` that nobody has)."""
        handed = self.store.until(self.wire.handed)
        for one in handed[-1 - back :][:count]:
            self.wire.append(one, one.seq - 1 if unused else one.before)

    @precondition(lambda self: self.wire.out)
    @rule(count=COUNTS, acknowledged=st.booleans())
    def dispatch(self, count: int, acknowledged: bool) -> None:
        """Lines are published, to whoever hears them."""
        self.wire.dispatch(count, acknowledged=acknowledged)

    @precondition(lambda self: self.wire.out)
    @rule()
    def forget_out(self) -> None:
        """Redis is rolled back: what waits for dispatch is gone, and recovery is due."""
        self.wire.out.clear()
        self.losses += 1

    @rule(steps=STEPS)
    def publish(self, steps: Steps) -> None:
        """Messages go all the way, as on a good day."""
        self.accept(steps)
        self.hand_on(len(self.store.accepted))
        self.dispatch(len(self.wire.out), acknowledged=True)
        self.receive(len(self.wire.channel))

    @rule(steps=STEPS)
    def miss(self, steps: Steps) -> None:
        """Messages go all the way while the edge is cut off; it hears again before the heads are compared."""
        self.lose_redis()
        self.publish(steps)
        self.hear_again()

    @precondition(lambda self: self.store.accepted)
    @rule(back=BACK, removed=st.booleans())
    def expire(self, back: int, removed: bool) -> None:
        """The time of a message is over; MongoDB removes it at some later time."""
        one = self.store.accepted[-1 - back :][0]
        one.removed |= removed and one.expired
        self.store.expire(one)

    @precondition(lambda self: self.wire.hears)
    @rule(exclude=st.sampled_from(["", BUT_DESK]))
    def send_transient(self, exclude: str) -> None:
        """A message without a seq is published; its text says whom it passes by."""
        frame = f'{{"type":"message","to":"{TARGET}","text":"{exclude}"}}'
        self.wire.channel.append(build_line(TARGET, None, None, None, frame, exclude=exclude).encode())

    # -- the edge and Redis --------------------------------------------------------------------------------------------

    @precondition(lambda self: self.wire.channel)
    @rule(count=COUNTS)
    def receive(self, count: int) -> None:
        """The edge reads from its channel."""
        self.cluster.receive(count)
        self.cluster.turn()

    @precondition(lambda self: self.wire.hears)
    @rule()
    def lose_redis(self) -> None:
        """The subscription breaks, or the route lapses."""
        self.wire.lose()
        self.losses += 1

    @precondition(lambda self: not self.wire.hears)
    @rule()
    def hear_again(self) -> None:
        """The subscription and the routes stand again."""
        self.wire.hears = True

    @precondition(lambda self: self.wire.hears)
    @rule(known=st.booleans(), back=BACK)
    def read_heads(self, known: bool, back: int) -> None:
        """A head comes with the route that was written anew: the true one, a stale one, or none."""
        self.heads.append((self._head(back) if known else None, self.losses))

    @precondition(lambda self: self.heads)
    @rule()
    def check_heads(self) -> None:
        """The edge compares it."""
        head, losses = self.heads.pop(0)
        self.cluster.resync.check(USER, head)
        self.compared = max(losses, self.compared)
        self.cluster.turn()

    # -- the edge and MongoDB ------------------------------------------------------------------------------------------

    @precondition(lambda self: self.store.queries)
    @rule(nth=st.integers(0, 3), page_max=st.integers(1, 4), fails=st.sampled_from([False, False, True]))
    def answer(self, nth: int, page_max: int, fails: bool) -> None:
        """A query comes to its end; the next page will be of another size."""
        self.store.page_max = page_max
        self.store.answer(nth, AutoReconnect("away") if fails else None)
        self.cluster.turn()

    # -- devices -------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.apart)
    @rule(device=devices(lambda self: self.apart), back=st.integers(0, 3))
    def connect(self, device: Device, back: int) -> None:
        """A device opens a connection."""
        device.connect(self.cluster, back)

    @precondition(lambda self: self.wire.hears and (self.apart or self.joining))
    @rule()
    def join_all(self) -> None:
        """Devices without a session come to one at once, and Redis knows their heads."""
        for device in self.apart:
            device.connect(self.cluster, 0)
        for link in self.joining:
            link.registered(self._head(0))
        self.cluster.turn()

    @precondition(lambda self: self.wire.hears and self.joining)
    @rule(nth=st.integers(0, 2), back=BACK)
    def write_route(self, nth: int, back: int) -> None:
        """A route is written, and a head read: the true one or a stale one."""
        self.joining[nth % len(self.joining)].told = self._head(back)

    @precondition(lambda self: self.wire.hears and self.joining)
    @rule(nth=st.integers(0, 2))
    def find_no_head(self, nth: int) -> None:
        """A route is written, and Redis cannot tell the head: MongoDB is asked."""
        self.cluster.heads.ask(TARGET, self.joining[nth % len(self.joining)].registered)
        self.cluster.turn()

    @precondition(lambda self: any(link.told is not None for link in self.joining))
    @rule()
    def register(self) -> None:
        """Heads reach their sessions."""
        for link in self.joining:
            if link.told is not None:
                link.registered(link.told)
                link.told = None
        self.cluster.turn()

    @precondition(lambda self: self.wire.hears and self.apart)
    @rule(steps=STEPS, missed=st.booleans(), known=st.booleans())
    def join_amid_traffic(self, steps: Steps, missed: bool, known: bool) -> None:
        """Messages come, or are missed and the heads compared, after the head was read and before it reaches the session."""
        self.connect(self.apart[0], 0)
        self.write_route(len(self.joining) - 1, 0)
        if missed:
            self.miss(steps)
            self.read_heads(known, 0)
            self.check_heads()
        else:
            self.publish(steps)
        self.register()

    @precondition(lambda self: self.links)
    @rule(device=devices(lambda self: [one for one in self.devices if one.connected]), count=st.integers(1, 20))
    def read(self, device: Device, count: int) -> None:
        """A client reads what was sent."""
        device.read(count)
        self.cluster.turn()

    @precondition(lambda self: self.devices[-1].connected and self.devices[-1].taken)
    @rule(written=st.booleans())
    def ack(self, written: bool) -> None:
        """A client acknowledges what it has; the edge writes it, or is killed before that."""
        device = self.devices[-1]
        assert device.link is not None
        if device.link.welcomed is not None:
            device.link.ack(device.taken[-1])
        if written:
            self.cluster.cursors |= self.cluster.moved

    @precondition(lambda self: not self.apart)
    @rule(device=devices(lambda self: self.devices), count=st.integers(0, 20))
    def part(self, device: Device, count: int) -> None:
        """A connection breaks; some of what was sent had arrived."""
        assert device.link is not None
        device.read(count)
        device.link.end()
        self.cluster.turn()

    # -- what must hold --------------------------------------------------------------------------------------------------

    @invariant()
    def whoever_is_behind_is_looked_after(self) -> None:
        """A session that is behind waits for its turn, for a page, or for its client: none is forgotten, none there twice."""
        at_work = [*self.cluster.catch_up._queue, *self.cluster.catch_up._parked]
        behind = [link.position for link in self.links if link.position.started and link.position.goal is not None]
        assert len(at_work) == len(set(at_work))
        assert len(set(behind) - set(at_work)) <= len(self.store.queries)

    def teardown(self) -> None:
        """Bring everybody to the end, and look at the whole."""
        try:
            self._bring_to_the_end()
            for device in self.devices:
                self._hold_against_promise(device)
        finally:
            self.cluster.close()
            for one in self._patches:
                one.stop()

    def _bring_to_the_end(self) -> None:
        self.wire.hears = True
        self._settle()
        for one in self.store.accepted:
            if self.ending == "recovery" or one.seq > self.wire.handed:
                self.wire.append(one, one.seq - 1)
        while self.wire.out or self.wire.channel:
            self.wire.dispatch(1, acknowledged=True)
            self.cluster.receive(1)
            self._settle()
        if self.ending.startswith("resync") or (self.ending != "recovery" and self.compared < self.losses):
            self.cluster.resync.check(USER, self._head(0) if self.ending == "resync" else None)
            self.cluster.turn()
            self._settle()

    def _settle(self) -> None:
        """Let everybody connect, read and be caught up."""
        until(lambda: not any(map(_is_busy, self.devices)) and not self.store.queries, self._step)

    def _step(self) -> None:
        for device in self.devices:
            if device.connected:
                device.read(100)
        self.join_all()
        while self.store.queries:
            self.store.answer(0)
        self.cluster.turn()

    def _hold_against_promise(self, device: Device) -> None:
        link = device.link
        assert link is not None
        assert device.began is not None
        assert link.caught_up == link.resumes
        perhaps = {one.seq for one in self.store.accepted if one.expired}
        owed = [one.seq for one in self.store.between(device.began, self.store.top, link.names)]
        assert device.taken == sorted(set(device.taken))
        outdated = {one.seq for one in self.store.accepted if self.store.may_be_left_out(one)}
        taken = {seq for seq in device.taken if seq not in perhaps}
        # With the newest of each key at the least that lives as long, all of them come to the same.
        assert set(owed) - outdated <= taken <= set(owed)
        # What passes a device by counts as seen there: it may be acknowledged, and nothing is to be read behind it.
        assert link.position.at == self.store.top

    def _head(self, back: int) -> int:
        handed: list[Accepted] = self.store.until(self.wire.handed)
        back = 0 if self.ending == "no more than needed" else back
        return handed[-1 - back :][0].seq if handed else 0


def _is_busy(device: Device) -> bool:
    link = device.link
    return link is None or link.gone or link.welcomed is None or link.position.goal is not None or link.backlog_bytes > 0


TestSessionMachine = SessionMachine.TestCase
TestSessionMachine.settings = settings(
    settings.get_profile("default"),
    max_examples=100,
    stateful_step_count=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
