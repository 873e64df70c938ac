"""edge.ledger: which route is written when."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from edge.ledger import Ledger, Write

RENEW_S = 20.0


def users(writes: list[Write]) -> list[str]:
    """Return whose routes are to be written."""
    return [write.user for write in writes]


def test_asks_of_one_user_are_one_write() -> None:
    """All waiters are told by it, and one doubt is enough."""
    ledger, told = Ledger(RENEW_S), list[tuple[int | None, int]]()
    ledger.ask("a", lambda head, at_us: told.append((head, at_us)))
    ledger.ask("a", doubtful=True)
    ledger.ask("a", lambda head, at_us: told.append((head, at_us)), "phone")
    (write,) = ledger.take(0.0, 10)
    assert write.doubtful
    assert list(write.waiters.values()) == ["", "phone"]
    for waiter in write.waiters:
        waiter(5, 7)
    assert told == [(5, 7)] * 2
    assert ledger.take(0.0, 10) == []


def test_an_ask_during_the_write_is_another_write() -> None:
    """The head that its waiter is told must have been read after the ask."""
    ledger = Ledger(RENEW_S)
    ledger.ask("a")
    ledger.take(0.0, 10)
    ledger.ask("a")
    assert users(ledger.take(0.0, 10)) == ["a"]


def test_what_is_given_back_is_asked_still() -> None:
    """Merged with what was asked since, the earlier waiters first."""
    ledger, told = Ledger(RENEW_S), list[str]()
    ledger.ask("a", lambda *_: told.append("first"), doubtful=True)
    writes = ledger.take(0.0, 10)
    ledger.ask("a", lambda *_: told.append("second"))
    ledger.give_back(writes)
    (write,) = ledger.take(0.0, 10)
    assert write.doubtful
    for waiter in write.waiters:
        waiter(None, 0)
    assert told == ["first", "second"]


def test_what_is_given_back_is_doubtful() -> None:
    """A renewal too: it may have been written, and its answer alone have told of a lapse."""
    ledger = Ledger(RENEW_S)
    ledger.done("a", 0.0, held=True)
    (renewal,) = ledger.take(RENEW_S, 10)
    assert not renewal.doubtful
    ledger.give_back([renewal])
    (again,) = ledger.take(RENEW_S, 10)
    assert again.doubtful


def test_who_withdraws_is_kept_nowhere() -> None:
    """Neither among those asked for nor in a write that failed; whoever else waits is told."""
    ledger, told = Ledger(RENEW_S), list[str]()

    def gone(*_: object) -> None:
        told.append("gone")

    ledger.ask("a", gone)
    ledger.ask("a", lambda *_: told.append("there"))
    ledger.ask("b", gone)
    ledger.withdraw("b", gone)
    writes = ledger.take(0.0, 10)
    ledger.withdraw("a", gone)
    ledger.give_back(writes)
    ledger.withdraw("nobody", gone)
    for write in ledger.take(0.0, 10):
        for waiter in write.waiters:
            waiter(None, 0)
    assert told == ["there"]


def test_a_batch_is_bounded_and_asks_go_before_renewals() -> None:
    """What is left over comes next."""
    ledger = Ledger(RENEW_S)
    ledger.done("old", 0.0, held=True)
    for user in "abc":
        ledger.ask(user)
    assert users(ledger.take(RENEW_S, 2)) == ["a", "b"]
    assert users(ledger.take(RENEW_S, 2)) == ["c", "old"]


def test_a_burst_is_not_renewed_in_one() -> None:
    """Renewals spread over half the time, the last in time."""
    draws = itertools.cycle(n / 997 for n in range(997))
    ledger = Ledger(RENEW_S, lambda: next(draws))
    for n in range(1_000):
        assert ledger.done(str(n), 0.0, held=True) is False
    assert ledger.take(RENEW_S * 0.73, 1_000) == []
    in_the_middle = len(ledger.take(RENEW_S * 7 / 8, 1_000))
    assert 400 < in_the_middle < 600
    assert len(ledger.take(RENEW_S, 1_000)) == 1_000 - in_the_middle


def test_renewals_come_due_together() -> None:
    """At few moments, so that a call carries many."""
    draws = itertools.cycle(n / 997 for n in range(997))
    ledger, moments, now_s = Ledger(RENEW_S, lambda: next(draws)), 0, 0.0
    for n in range(1_000):
        ledger.done(str(n), n / 1_000, held=True)
    while (now_s := ledger.next_renewal_s) < math.inf:
        ledger.take(now_s, 1_000)
        moments += 1
    assert 15 < moments < 30


def test_a_removed_route_is_not_renewed() -> None:
    """And a user asked for meanwhile is written once."""
    ledger = Ledger(RENEW_S)
    ledger.done("a", 0.0, held=True)
    ledger.done("b", 0.0, held=True)
    assert ledger.done("a", 1.0, held=False) is True
    ledger.ask("b")
    assert users(ledger.take(RENEW_S, 10)) == ["b"]
    assert ledger.done("a", 2.0, held=False) is False


def test_nothing_held_means_nothing_due() -> None:
    """The writer may sleep."""
    assert Ledger(RENEW_S).next_renewal_s == math.inf


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from(["come", "go", "tick", "fail"])), max_size=80))
def test_every_held_route_is_renewed_in_time(steps: list[tuple[str, str]]) -> None:
    """Whoever comes and goes, and whatever fails: no route stands longer than the renewal time, give or take a tick."""
    ledger, held, written_s, now_s = Ledger(RENEW_S), set[str](), dict[str, float](), 0.0
    for user, step in steps:
        if step in {"come", "go"}:
            (held.add if step == "come" else held.discard)(user)
            ledger.ask(user)
        now_s += 1.0
        writes = ledger.take(now_s, 100)
        if step == "fail":
            ledger.give_back(writes)
            writes = ledger.take(now_s, 100)
        for write in writes:
            ledger.done(write.user, now_s, held=write.user in held)
            written_s[write.user] = now_s
        for one in held:
            assert now_s - written_s[one] <= RENEW_S + 1.0
        assert ledger.asked == 0
