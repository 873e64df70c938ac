"""What breaks first as a system grows: the part that is the next to need another unit. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tests.bench.capacity.costs import Costs
from tests.bench.capacity.plan import Limits, Load, Plan, plan

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)

_STEP: Final = 1.02
_GROWTH_MAX: Final = 1_000.0


@dataclass(frozen=True, slots=True)
class Break:
    """What does not do any more.

    Attributes:
        part: that needs one unit more.
        binding: of what.
        at: how many times the load that is.
    """

    part: str
    binding: str
    at: float


def grown(load: Load, times: float) -> Load:
    """Return a load so many times as large."""
    return replace(load, users=round(load.users * times), messages_per_s=load.messages_per_s * times)


def first_break(load: Load, costs: Costs, limits: Limits) -> Break:
    """Return what is to be added first when the load grows, and when.

    Raises:
        ValueError: when nothing breaks at a thousand times the load.
    """
    before, times = plan(load, costs, limits), 1.0
    while times < _GROWTH_MAX:
        times *= _STEP
        for old, new in zip(before.parts, plan(grown(load, times), costs, limits).parts, strict=True):
            if new.count > old.count:
                return Break(new.name, new.binding, times)
    raise ValueError("nothing breaks")


def plans(load: Load, costs: Costs, limits: Limits, sizes: Sequence[int] = SIZES) -> Iterator[tuple[Plan, Break]]:
    """Yield what each size takes, with as many messages a user as in `load`, and what breaks next there."""
    for size in sizes:
        sized = grown(load, size / load.users)
        yield plan(sized, costs, limits), first_break(sized, costs, limits)
