"""router.crowd: a few at each pass, in their order, and all of them in the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from router.crowd import A_PASS, Turns


class Loop:
    """An event loop that makes a pass when it is told to."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, call: Callable[[], None]) -> None:
        """Have it called at the next pass."""
        self.soon.append(call)

    def make_pass(self) -> None:
        """Call what is to be called."""
        soon, self.soon = self.soon, []
        for call in soon:
            call()


@pytest.mark.parametrize("crowd", [1, A_PASS, A_PASS + 1, 5 * A_PASS])
def test_a_few_at_each_pass(crowd: int) -> None:
    """Those who find nobody waiting act at once, up to so many; the others later, in the order of their coming."""
    loop, acted = Loop(), list[int]()
    turns = Turns(loop.call_soon)
    at_once = [turns.take(lambda number=number: acted.append(number)) for number in range(crowd)]  # type: ignore[misc]
    assert at_once == [number < A_PASS for number in range(crowd)]
    while loop.soon:
        before = len(acted)
        loop.make_pass()
        assert len(acted) - before <= A_PASS
    assert acted == list(range(crowd))


def test_nobody_acts_before_those_who_wait() -> None:
    """Whoever comes when some wait, waits behind them; the next pass begins anew."""
    loop, acted = Loop(), list[str]()
    turns = Turns(loop.call_soon)
    for _ in range(A_PASS + 1):
        turns.take(lambda: acted.append("first"))
    loop.make_pass()
    assert turns.take(lambda: acted.append("then"))
    assert acted == ["first"] * (A_PASS + 1) + ["then"]


def test_what_an_act_asks_for_waits_for_its_own_turn() -> None:
    """A handshake asks for its token to be looked at."""
    loop, acted = Loop(), list[int]()
    turns = Turns(loop.call_soon)

    def act() -> None:
        acted.append(len(acted))
        if len(acted) < 3 * A_PASS:
            turns.take(act)

    turns.take(act)
    assert len(acted) == A_PASS
    loop.make_pass()
    assert len(acted) == 2 * A_PASS
    while loop.soon:
        loop.make_pass()
    assert len(acted) == 3 * A_PASS
