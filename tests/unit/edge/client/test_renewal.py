"""edge.client.renewal: when a newer token is asked for."""

from __future__ import annotations

import math

from edge.client import Pauses
from edge.client.renewal import Renewal

AT_ONCE = Pauses(min_s=0, max_s=0)


def test_a_notice_makes_it_due_at_once_and_a_token_sent_ends_that() -> None:
    """Until the next notice, or the next connection."""
    renewal = Renewal(AT_ONCE)
    assert renewal.due_s == math.inf
    renewal.expiring(100.0, 30.0)
    assert (renewal.due_s, renewal.left_s(110.0)) == (100.0, 20.0)
    renewal.sent()
    assert renewal.due_s == math.inf
    renewal.expiring(200.0, 30.0)
    renewal.parted()
    assert (renewal.due_s, renewal.left_s(200.0)) == (math.inf, 0.0)


def test_what_failed_is_tried_again_while_there_is_time() -> None:
    """A try behind the end is none: the connection will be closed by then."""
    renewal = Renewal(AT_ONCE)
    renewal.expiring(100.0, 30.0)
    assert renewal.failed(129.0) == 0.0
    assert renewal.due_s == 129.0
    assert renewal.failed(130.0) == 0.0
    assert renewal.due_s == math.inf


def test_pauses_grow_with_each_failure_until_the_next_notice() -> None:
    """As those between connections do."""
    renewal = Renewal(Pauses(min_s=1, max_s=1_000))
    ceilings_s = []
    for _ in range(2):
        renewal.expiring(0.0, 10_000.0)
        ceilings_s.append([max(_drawn(renewal, failures)) for failures in (0, 5)])
    assert all(first <= 1 < last <= 32 for first, last in ceilings_s)


def _drawn(renewal: Renewal, failures: int) -> list[float]:
    """Return pauses that were drawn behind so many failures."""
    drawn = []
    for _ in range(100):
        renewal.expiring(0.0, 10_000.0)
        for _ in range(failures):
            renewal.failed(0.0)
        drawn.append(renewal.failed(0.0))
    return drawn
