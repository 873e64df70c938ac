"""Collect under any interleaving of append, crash, freeze, takeover, repetition and loss of Redis' memory.

However it goes, it ends in the same: what was appended and not lost with Redis is accepted once a target in the order of its
stream, and every session gets what is accepted behind its start, in the order of seqs, each once.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.unit.collect.crashes import INBOX_CALLS, INTAKE_CALLS, TARGETS, Listener, Shard

FROZEN_MAX = 2

SOME_TARGETS = st.lists(st.sampled_from(TARGETS), min_size=1, max_size=3, unique=True).map(tuple)
IDS = st.lists(st.integers(0, 40).map("m{}".format), min_size=1, max_size=5)
CALLS = st.sampled_from([*INBOX_CALLS, *INTAKE_CALLS])
TARGET = st.sampled_from(TARGETS)


class CrashMachine(RuleBasedStateMachine):
    """One shard and whoever hears of it."""

    def __init__(self) -> None:
        super().__init__()
        self.shard = Shard()
        self.copy: tuple[dict[bytes, Any], int] | None = None
        """An older state of Redis, and how many messages had been appended then."""

    # -- producers -----------------------------------------------------------------------------------------------------

    @rule(to=SOME_TARGETS, ids=IDS)
    def append(self, to: tuple[str, ...], ids: list[str]) -> None:
        """Producers append; an id that was there before is a retry."""
        for message_id in ids:
            self.shard.append(to, message_id)

    @rule(transient=st.booleans())
    def append_something_else(self, transient: bool) -> None:
        """A transient message, or what breaks the contract."""
        if transient:
            self.shard.append(("user:a",), "t", transient=True)
        else:
            self.shard.run(self.shard.workshop.append(0, to="nobody", text="hi"))

    # -- owners --------------------------------------------------------------------------------------------------------

    @rule()
    def work(self) -> None:
        """A new owner does all there is."""
        self.shard.work()

    @rule(to=SOME_TARGETS, ids=IDS, method=CALLS, when=st.sampled_from(["before", "after"]), nth=st.integers(1, 3))
    def cut_off(self, to: tuple[str, ...], ids: list[str], method: str, when: str, nth: int) -> None:
        """A new owner dies before or after one of its calls."""
        self.append(to, ids)
        self.shard.cut_off(method, when, nth)

    @rule(to=SOME_TARGETS, ids=IDS, stored=st.integers(0, 4))
    def cut_off_in_insert(self, to: tuple[str, ...], ids: list[str], stored: int) -> None:
        """A new owner dies while MongoDB has stored the first documents of a batch only."""
        self.append(to, ids)
        self.shard.inbox.keep_only = frozenset(range(stored))
        self.shard.work()
        self.shard.inbox.keep_only = None

    @precondition(lambda self: len(self.shard.frozen) < FROZEN_MAX)
    @rule(to=SOME_TARGETS, ids=IDS, method=CALLS, nth=st.integers(1, 2))
    def freeze(self, to: tuple[str, ...], ids: list[str], method: str, nth: int) -> None:
        """A new owner stands still before one of its calls; sooner or later another one has the lease."""
        self.append(to, ids)
        self.shard.freeze(method, nth)

    @precondition(lambda self: self.shard.frozen)
    @rule()
    def wake(self) -> None:
        """A frozen owner goes on as if nothing had been."""
        self.shard.wake()

    # -- dispatch and sessions -----------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 6), acknowledged=st.booleans())
    def dispatch(self, count: int, acknowledged: bool) -> None:
        """Lines are published; dispatch may die before it has acknowledged them."""
        self.shard.dispatch(count, acknowledged=acknowledged)

    @rule(of=TARGET, known=st.booleans())
    def resync(self, of: str, known: bool) -> None:
        """The sessions of a target compare their heads with Redis', or with MongoDB's newest."""
        head = self.shard.head(of) if known else self.shard.newest(of)
        for listener in self.shard.listeners:
            if listener.target == of:
                listener.resync(head)

    @rule(of=TARGET, back=st.integers(0, 3), known=st.booleans())
    def come_back(self, of: str, back: int, known: bool) -> None:
        """A device opens another session, behind one of the last messages that it got."""
        got = [0, *next(one.got for one in self.shard.listeners if one.target == of)]
        head = self.shard.head(of) if known else self.shard.newest(of)
        self.shard.listeners.append(Listener(of, got[max(0, len(got) - 1 - back)], head, self.shard.inbox))

    # -- losses --------------------------------------------------------------------------------------------------------

    @rule(of=TARGET)
    def forget_counters(self, of: str) -> None:
        """Somebody deletes a seq key; `pending` is what no hand may touch."""
        self.shard.run(self.shard.redis.delete(self.shard.keys.seq(of)))

    @rule()
    def copy_redis(self) -> None:
        """A replica stands where Redis stands now."""
        self.copy = self.shard.snapshot(), len(self.shard.appended)

    @precondition(lambda self: self.copy is not None)
    @rule()
    def roll_back(self) -> None:
        """Redis fails over to a replica that lags, or comes back from an older copy of its data."""
        assert self.copy is not None
        held, kept = self.copy
        self._lose(held, kept)

    @rule(to=SOME_TARGETS, ids=IDS, published=st.integers(1, 6))
    def work_in_vain(self, to: tuple[str, ...], ids: list[str], published: int) -> None:
        """Redis is rolled back to before a batch, which is stored, and some of it published."""
        held, kept = self.shard.snapshot(), len(self.shard.appended)
        self.append(to, ids)
        self.shard.work()
        self.shard.dispatch(published)
        self._lose(held, kept)

    @rule(sure=st.sampled_from([False, False, True]))
    def lose_redis(self, sure: bool) -> None:
        """All of Redis is gone, and MongoDB is not."""
        if sure:
            self._lose(None, 0)

    def _lose(self, held: dict[bytes, Any] | None, kept: int) -> None:
        # An owner that is about to store what Redis has lost with its entries is the one case that is not promised.
        self.shard.kill_frozen("insert")
        self.shard.roll_back(held)
        self.shard.forget_what_is_lost(kept)
        # What is expected beyond an older copy now has been accepted, so none of them is of use any more.
        self.copy = None

    # -- what must hold ------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Let everybody come to an end, and look at the whole."""
        try:
            while self.shard.frozen:
                self.shard.wake()
            self.shard.work()
            self.shard.run(self.shard.workshop.nothing_is_left())
            while self.shard.dispatch(100):
                pass
            self.shard.holds_its_promise()
        finally:
            self.shard.close()


TestCrashMachine = CrashMachine.TestCase
TestCrashMachine.settings = settings(settings.get_profile("default"), max_examples=30, stateful_step_count=30)


def test_owner_that_stands_still_in_its_insert_while_redis_forgets() -> None:
    """The one case where a connected session lacks an accepted message: whoever comes back gets it, and so says the page."""
    shard = Shard()
    try:
        shard.work()
        before = shard.snapshot()
        shard.append(("user:a",), "m1")
        shard.freeze("insert", 1)
        shard.roll_back(before)
        shard.append(("user:a",), "m2")
        shard.work()
        shard.dispatch(1)
        shard.wake()
        first, second = [one["seq"] for one in shard.accepted("user:a")]
        assert shard.listeners[0].got == [second]
        assert Listener("user:a", 0, shard.head("user:a"), shard.inbox).got == [first, second]
    finally:
        shard.close()


def test_time_of_storing_is_each_slices_own() -> None:
    """A batch may stand still between two slices while `out` is too long, and recovery asks when a message was stored."""
    shard = Shard()
    try:
        for message_id in ("m1", "m2"):
            shard.append(TARGETS, message_id)
        shard.freeze("append", 1)
        shard.now_ms += 3_600_000
        shard.wake()
        times = [one["stored_at"].timestamp() for target in TARGETS for one in shard.accepted(target)]
        assert sorted({round(time_s - min(times)) for time_s in times}) == [0, 3_600]
    finally:
        shard.close()
