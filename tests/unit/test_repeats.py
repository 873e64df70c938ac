"""router.repeats: a thing is told a few times, and then counted."""

from __future__ import annotations

import logging

from router.repeats import KINDS_MAX, OTHERS, Kind, Repeats, Suppressed

KIND: Kind = (("of", "route_refused"),)
WARNING = logging.WARNING


class Clock:
    """Seconds that grow when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


def _repeats(most: int = 3) -> tuple[Repeats, Clock]:
    clock = Clock()
    return Repeats(most, 10.0, clock), clock


def test_the_first_few_of_a_kind_are_admitted() -> None:
    """As many as are allowed are admitted, and what is more is not."""
    repeats, _ = _repeats()
    assert [repeats.admit(KIND, WARNING) for _ in range(5)] == [True, True, True, False, False]


def test_kinds_do_not_count_for_each_other() -> None:
    """One kind's flood hides no line of another."""
    repeats, _ = _repeats()
    for _ in range(100):
        repeats.admit(KIND, WARNING)
    assert repeats.admit((("of", "route_refused"), ("shard", "1")), WARNING)


def test_the_rest_is_told_once_when_the_interval_is_over() -> None:
    """Not before, then with its number and level, and never again."""
    repeats, clock = _repeats()
    for _ in range(8):
        repeats.admit(KIND, WARNING)
    clock.now_s = 9.9
    assert repeats.take_over() == []
    clock.now_s = 10.0
    assert repeats.take_over() == [Suppressed(KIND, 5, WARNING)]
    assert repeats.take_over() == []


def test_a_new_interval_admits_anew_and_keeps_the_number_of_the_old() -> None:
    """A line that begins an interval does not lose what the one before has to tell."""
    repeats, clock = _repeats()
    for _ in range(4):
        repeats.admit(KIND, WARNING)
    clock.now_s = 11.0
    assert repeats.admit(KIND, WARNING)
    assert repeats.take_over() == [Suppressed(KIND, 1, WARNING)]


def test_at_the_end_nothing_stays_untold() -> None:
    """What ends in the middle of an interval tells its number too."""
    repeats, _ = _repeats(most=1)
    repeats.admit(KIND, WARNING)
    repeats.admit(KIND, WARNING)
    assert repeats.take_over(all_of_them=True) == [Suppressed(KIND, 1, WARNING)]


def test_what_was_not_suppressed_is_not_told() -> None:
    """A kind within its bounds leaves nothing behind."""
    repeats, clock = _repeats()
    repeats.admit(KIND, WARNING)
    clock.now_s = 20.0
    assert repeats.take_over(all_of_them=True) == []


def test_kinds_are_bounded() -> None:
    """However many kinds an attacker makes up, they are few in memory, and those beyond share one."""
    repeats, _ = _repeats(most=1)
    admitted = sum(repeats.admit((("of", f"made-up-{n}"),), WARNING) for n in range(KINDS_MAX * 2))
    assert admitted == KINDS_MAX + 1
    assert repeats.take_over(all_of_them=True) == [Suppressed(OTHERS, KINDS_MAX - 1, WARNING)]
