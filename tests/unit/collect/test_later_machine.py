"""Collect under any interleaving of append, time, crash, freeze, takeover, call back, and loss of Redis' memory.

However it goes: what is not to be sent before a time is not, and is sent then, once a target, in the order of those times; and
every session gets it in the order of seqs, each once, as it gets all else.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from tests.unit.collect.crashes import LATER_CALLS, TARGETS, Shard
from tests.unit.collect.test_crash_machine import CALLS, FROZEN_MAX, IDS, SOME_TARGETS, CrashMachine

STEP_MS = 1_000
STEPS_MAX = 40

TIMES = st.lists(st.integers(1, STEPS_MAX), min_size=1, max_size=5)
ANY_CALL = CALLS | st.sampled_from(LATER_CALLS)


class LaterMachine(CrashMachine):
    """The same shard, and messages that wait; how many steps each one waits is its name."""

    def __init__(self) -> None:
        super().__init__()
        self.times_appended: Counter[tuple[str, str]] = Counter()
        self.ever_waited: set[tuple[str, str]] = set()
        self.furthest_ms = 0
        """What a clock has shown that was ahead."""
        self.overtaken: set[tuple[str, str]] = set()
        """What was appended for a time that such a clock had shown: what is later may have been in hand by then."""

    @rule(to=SOME_TARGETS, at=TIMES)
    def append_for(self, to: tuple[str, ...], at: list[int]) -> None:
        """Producers append what is to wait, or would have had to."""
        for steps in at:
            at_ms = self.shard.began_ms + steps * STEP_MS
            self.shard.append_for(at_ms, to, f"w{steps}")
            named = {(target, f"w{steps}") for target in to}
            self.times_appended.update(named)
            self.overtaken |= named if at_ms <= self.furthest_ms else set()

    @rule(steps=st.integers(1, 8))
    def go_on(self, steps: int) -> None:
        """Time passes."""
        self.shard.now_ms += steps * STEP_MS

    @rule(
        to=SOME_TARGETS, at=TIMES, steps=st.integers(1, STEPS_MAX), method=ANY_CALL, when=st.sampled_from(["before", "after"])
    )
    def cut_off_when_due(self, to: tuple[str, ...], at: list[int], steps: int, method: str, when: str) -> None:
        """A new owner dies with messages that are due in hand, or before it has any."""
        self.append_for(to, at)
        self.shard.work()
        self.shard.now_ms += steps * STEP_MS
        self.shard.cut_off(method, when, 1)

    @rule(to=SOME_TARGETS, steps=st.integers(1, 8), ids=IDS, method=ANY_CALL, when=st.sampled_from(["before", "after"]))
    def cut_off_by_a_clock_ahead(self, to: tuple[str, ...], steps: int, ids: list[str], method: str, when: str) -> None:
        """An owner whose clock is ahead dies with messages in hand; by the clock of the next one they are not due yet."""
        ahead_ms = steps * STEP_MS
        at_ms = self.shard.now_ms + ahead_ms
        self.shard.append_for(at_ms, to, f"x{at_ms - self.shard.began_ms}")
        self.shard.work()
        self.shard.now_ms += ahead_ms
        self.shard.cut_off(method, when, 1)
        self.furthest_ms = max(self.furthest_ms, self.shard.now_ms)
        self.shard.now_ms -= ahead_ms
        self.append(to, ids)
        self.shard.work()
        self.shard.dispatch(10)

    @rule(to=SOME_TARGETS, steps=st.integers(1, 8), ids=IDS, method=CALLS, when=st.sampled_from(["before", "after"]))
    def fall_due_amid_a_batch(self, to: tuple[str, ...], steps: int, ids: list[str], method: str, when: str) -> None:
        """An owner dies with a batch of `in` in hand, and when the next one comes, others are due."""
        at_ms = self.shard.now_ms + steps * STEP_MS
        self.shard.append_for(at_ms, to, f"x{at_ms - self.shard.began_ms}")
        self.shard.work()
        self.append(to, ids)
        self.shard.cut_off(method, when, 1)
        self.shard.now_ms = at_ms
        self.shard.work()
        self.shard.dispatch(10)

    @precondition(lambda self: len(self.shard.frozen) < FROZEN_MAX)
    @rule(to=SOME_TARGETS, at=TIMES, steps=st.integers(1, STEPS_MAX), method=ANY_CALL)
    def freeze_when_due(self, to: tuple[str, ...], at: list[int], steps: int, method: str) -> None:
        """A new owner stands still with messages that are due in hand."""
        self.append_for(to, at)
        self.shard.work()
        self.shard.now_ms += steps * STEP_MS
        self.shard.freeze(method, 1)

    @rule(steps=st.integers(1, STEPS_MAX))
    def call_back(self, steps: int) -> None:
        """Somebody cancels a message."""
        self.shard.call_back(f"w{steps}")

    @invariant()
    def nothing_comes_early(self) -> None:
        """What has been accepted was due, and has that time for its own."""
        for (target, name), at_ms in self.shard.due.items():
            if (stored := self.shard.inbox.stored.get(f"{target} {name}")) is not None:
                assert at_ms <= max(self.shard.now_ms, self.furthest_ms)
                frame = stored.get("frame", "")
                assert not frame or f'"ts":{at_ms}' in frame or (target, name) not in self.ever_waited
        self.ever_waited |= {(target, one.id) for one in self.shard.later.waiting.values() for target in one.targets}

    def teardown(self) -> None:
        """Let the last of them be due, and everybody come to an end."""
        while self.shard.frozen:
            self.shard.wake()
        self.shard.append_for(self.shard.now_ms + 1, ("user:a",), "last")
        self.shard.work()
        self.shard.now_ms += (STEPS_MAX + 1) * STEP_MS
        super().teardown()
        for target in TARGETS:
            ids = [one["id"] for one in self.shard.accepted(target)]
            once = [one for one in ids if self.times_appended[target, one] == 1]
            waited = [one for one in once if (target, one) in self.ever_waited - self.overtaken]
            assert waited == sorted(waited, key=lambda name: int(name[1:])), target


TestLaterMachine = LaterMachine.TestCase
TestLaterMachine.settings = settings(settings.get_profile("default"), max_examples=30, stateful_step_count=20)


def test_what_is_in_hand_comes_first_whatever_the_clock_says() -> None:
    """Stored, and not in `out` when its owner died, it is not due by the next one's clock, and yet nothing overtakes it."""
    shard = Shard()
    try:
        shard.append(("user:a",), "before")
        shard.append_for(shard.now_ms + 1_000, ("user:a",), "w1")
        shard.work()
        shard.now_ms += 1_000
        shard.cut_off("append", "before", 1)
        shard.now_ms -= 1_000
        shard.append(("user:a",), "after")
        shard.work()
        while shard.dispatch(100):
            pass
        assert [one["id"] for one in shard.accepted("user:a")] == ["before", "w1", "after"]
        shard.holds_its_promise()
    finally:
        shard.close()


def test_what_is_due_waits_for_no_more_than_one_message_to_many() -> None:
    """What is taken from `in` is brought to its end first, so no more of such entries is taken than makes a batch."""
    shard = Shard()
    try:
        shard.append_for(shard.now_ms + 1_000, ("user:a",), "w1")
        shard.work()
        to = ("user:a", *(f"user:stranger{number}" for number in range(50)))
        for message_id in ("m1", "m2", "m3"):
            shard.append(to, message_id)
        shard.freeze("append", 1)
        shard.now_ms += 1_000
        shard.wake()
        shard.work()  # there is no bell to ring for the rest
        assert [one["id"] for one in shard.accepted("user:a")] == ["m1", "w1", "m2", "m3"]
    finally:
        shard.close()
