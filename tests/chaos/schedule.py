"""Which fault strikes when: a pure function of seed, minutes and kinds, so that a run can be had again.

Kinds are dealt from a shuffled deck, so that each has its turn before one comes twice. At most two faults overlap, and nothing
is done to a process to which something is being done.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from random import Random
from typing import Final

from tests.chaos.faults import KINDS, Fault

AT_ONCE_MAX: Final = 2
WARM_UP_S: Final = 3.0
"""Before the first fault, so that there is traffic to disturb."""

GAP_S: Final = 2.5
"""About how long until another fault begins, whether or not the one before is over."""

REST_S: Final = 2.0
"""How long a victim is left alone after its fault: about what it takes to start again."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault and when it strikes, in seconds from the beginning."""

    number: int
    at_s: float
    kind: str
    fault: Fault

    @property
    def name(self) -> str:
        """What it is called in the history."""
        return f"{self.number} {self.kind} {self.fault.victim}"

    @property
    def until_s(self) -> float:
        """When it is to be over."""
        return self.at_s + self.fault.for_s

    def __str__(self) -> str:
        detail = f" ({self.fault.detail})" if self.fault.detail else ""
        return f"{self.at_s:7.2f} s  {self.name} for {self.fault.for_s:.2f} s{detail}"


def make_schedule(seed: int, minutes: float, kinds: Sequence[str]) -> tuple[Planned, ...]:
    """Return the faults of a run in the order in which they strike; all are over when the minutes are.

    Args:
        seed: any number.
        minutes: how long the run is.
        kinds: names in `KINDS`; in whatever order, and at least one.
    """
    rng = Random(f"{seed} {minutes} {' '.join(sorted(kinds))}")  # noqa: S311 - to be had again, not to be secret
    deck = _deal(sorted(kinds), rng)
    schedule: list[Planned] = []
    at_s = WARM_UP_S
    while True:
        kind = next(deck)
        fault = KINDS[kind].draw(rng)
        at_s = max(at_s, *_not_before_s(schedule, fault))
        planned = Planned(len(schedule) + 1, round(at_s, 2), kind, fault)
        if planned.until_s > minutes * 60:
            return tuple(schedule)
        schedule.append(planned)
        at_s += rng.expovariate(1 / GAP_S)


def _deal(kinds: Sequence[str], rng: Random) -> Iterator[str]:
    while True:
        yield from rng.sample(kinds, len(kinds))


def _not_before_s(schedule: Sequence[Planned], fault: Fault) -> Iterator[float]:
    """Yield times before which the fault may not begin."""
    ends = sorted((planned.until_s for planned in schedule), reverse=True)
    yield 0.0
    yield from ends[AT_ONCE_MAX - 1 : AT_ONCE_MAX]
    yield from (planned.until_s + REST_S for planned in schedule if planned.fault.victim == fault.victim)


def choose_kinds(wishes: str) -> tuple[str, ...]:
    """Return the kinds that a list such as `kill-*,failover` or `-failover` means, in the order of `KINDS`.

    A name may be a pattern; one with a minus in front is left out. Nothing but such means all but those.

    Raises:
        ValueError: when a name or pattern means none.
    """
    words = [word.strip() for word in wishes.split(",") if word.strip()]
    left_out = [word[1:] for word in words if word.startswith("-")]
    wanted = [word for word in words if not word.startswith("-")] or ["*"]
    for pattern in (*wanted, *left_out):
        if not any(fnmatchcase(kind, pattern) for kind in KINDS):
            raise ValueError(f"there is no fault {pattern!r}; there are {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if _any(kind, wanted) and not _any(kind, left_out))


def _any(kind: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(kind, pattern) for pattern in patterns)
