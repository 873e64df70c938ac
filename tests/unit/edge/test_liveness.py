"""edge.liveness: what is due when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.liveness import NEVER, Due, Pulse, look_every_s
from router.settings import Settings

PULSE = Pulse(quiet_s=25.0, answer_s=8.0)


@pytest.mark.parametrize(
    ("now", "heard", "pinged", "deadline", "due"),
    [
        (124.9, 100.0, 100.0, NEVER, Due.NOTHING),
        (125.0, 100.0, 100.0, NEVER, Due.PING),
        (132.9, 100.0, 125.0, NEVER, Due.NOTHING),
        (133.0, 100.0, 125.0, NEVER, Due.SILENT),
        (133.0, 125.1, 125.0, NEVER, Due.NOTHING),
        (150.1, 125.1, 125.0, NEVER, Due.PING),
        (104.9, 100.0, 100.0, 105.0, Due.NOTHING),
        (105.0, 100.0, 100.0, 105.0, Due.DEADLINE),
        (133.0, 100.0, 125.0, 105.0, Due.DEADLINE),
    ],
)
def test_what_is_due(now: float, heard: float, pinged: float, deadline: float, due: Due) -> None:
    """Quiet is pinged, pinged and silent is ended, and a deadline goes before both."""
    assert PULSE.judge(now, heard, pinged, deadline) is due


TIMES = st.floats(0.0, 100.0)


@given(TIMES, TIMES, TIMES, TIMES, TIMES, st.sampled_from([PULSE, Pulse(quiet_s=3.0, answer_s=8.0)]))
def test_nothing_is_due_before(heard: float, pinged: float, deadline: float, now: float, again: float, pulse: Pulse) -> None:
    """Whatever was heard since, from the time of that judgement on."""
    if now < pulse.nothing_before_s(heard, pinged, deadline):
        assert pulse.judge(now, heard, pinged, deadline) is Due.NOTHING
        assert pulse.judge(now, max(heard, pinged, again), pinged, deadline) is Due.NOTHING


def test_looks_are_frequent_enough_for_the_shortest_wait() -> None:
    """At most a quarter of it late, and at least once a second."""
    assert look_every_s(Settings()) == 1.0
    assert look_every_s(Settings(connect_timeout_s=0.2)) == pytest.approx(0.05)
