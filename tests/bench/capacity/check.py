"""How well the model foretells what it has not learnt from: figures of the same report at other rates and other sizes. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.bench.capacity.costs import MICRO, PROCESSES, Costs, at
from tests.bench.capacity.plan import PING_S, RENEWAL_S, more_publishes_a_message
from tests.bench.results import BY_PROCESS, Measure, Results
from tests.bench.scenes.growth import EDGES_AT_RATE_TITLE, EDGES_RATE_PER_S, EDGES_TITLE, RATES_TITLE
from tests.bench.scenes.lanes import MIDDLE_PER_S

_LEARNT: Final = (1, 8)
"""Edges at a rate, of whose difference the cost of a publish is learnt."""


@dataclass(frozen=True, slots=True)
class Foretold:
    """A figure, as the model has it and as it was measured."""

    what: str
    unit: str
    model: float
    measured: float

    @property
    def ratio(self) -> float:
        """Return model by measured: above 1 the model is too careful."""
        return self.model / self.measured


def check(costs: Costs, results: Results) -> Iterator[Foretold]:
    """Yield every figure that the model can tell, and that was measured."""
    for measure in results.measures.values():
        if measure.kind == "growth" and measure.at is not None:
            if measure.title == RATES_TITLE and measure.at != MIDDLE_PER_S:
                yield _message(costs, measure, f"fast lane, {measure.at:,.0f}/s", edges=1)
            elif measure.title == EDGES_TITLE and measure.at > 1:
                yield _message(costs, measure, f"fast lane at saturation, {measure.at:.0f} edges", edges=int(measure.at))
            elif measure.title == EDGES_AT_RATE_TITLE and measure.at not in _LEARNT:
                what = f"fast lane, {EDGES_RATE_PER_S:,}/s, {measure.at:.0f} edges"
                yield _message(costs, measure, what, edges=int(measure.at))
    crowd = results.measures.get("crowd")
    if crowd is not None:
        count = results.wishes["crowd"]
        assert isinstance(count, int | float)
        share = count * (costs.ping_us / PING_S + sum(costs.renewal_us.values()) / RENEWAL_S) / MICRO
        yield Foretold(f"{count:,.0f} quiet", "of a core", share, crowd.median("idle_core_share"))


def _message(costs: Costs, measure: Measure, what: str, edges: int) -> Foretold:
    rate = measure.median("deliveries_per_s")
    stages = costs.stages["fast"]
    us = sum(at(stages[process], rate / edges if process == "edge" else rate) for process in PROCESSES)
    us += more_publishes_a_message(costs, rate, edges) * costs.publish_us
    return Foretold(what, "CPU µs a message", us, sum(measure.median(f"{BY_PROCESS}{process}") for process in PROCESSES))
