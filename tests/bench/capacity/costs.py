"""What things cost, learnt from a report of `scripts/bench`; a short list that can be kept beside the code.

What a message costs falls as more come at once, since batches fill by themselves. So a stage's cost is a curve over the
messages a second that one shard, or one edge, has: measured at some rates, straight between them on logarithmic axes, and flat
beyond them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

import msgspec

from tests.bench.results import BY_PROCESS, Results
from tests.bench.scenes.growth import RATES_PER_S
from tests.bench.scenes.heartbeats import BEATS, DRAWN
from tests.bench.scenes.lanes import MIDDLE_PER_S

KEPT: Final = Path(__file__).with_name("costs.json")
"""Of the machine that docs/performance.md tells of."""

PROCESSES: Final = ("redis", "dispatch", "collect", "edge")

Lane = str
LANES: Final[tuple[Lane, ...]] = ("fast", "durable")

_OF_LANE: Final[Mapping[Lane, Sequence[str]]] = {
    "fast": ("fast_at_1000", f"fast_at_{MIDDLE_PER_S:.0f}", "fast_at_half", "fast_x1"),
    "durable": ("durable_null_at_1000", f"durable_null_at_{MIDDLE_PER_S:.0f}", "durable_null_x1"),
}
"""Measures of a lane, at rising rates."""

_BATCHES: Final = (*(f"growth_messages_a_second_{rate}" for rate in RATES_PER_S), "growth_edges_1")

_PUBLISHES: Final = ("growth_edges_at_rate_1", "growth_edges_at_rate_8")

NEEDED: Final = frozenset(
    (*chain(*_OF_LANE.values()), *_BATCHES, *_PUBLISHES, "crowd", *(f"heartbeat_{beat.name}" for beat in BEATS))
)
"""The measures of a report that costs are learnt from."""

MICRO: Final = 1_000_000


class NotMeasured(Exception):
    """A report lacks what costs are learnt from.

    Attributes:
        missing: the names of measures.
    """

    def __init__(self, missing: Collection[str]) -> None:
        super().__init__(f"the report lacks {', '.join(sorted(missing))}: `scripts/bench --all` measures everything")
        self.missing = missing


class Point(msgspec.Struct, frozen=True, array_like=True):
    """CPU µs a message at so many messages a second."""

    per_s: float
    us: float


Curve = tuple[Point, ...]


class Costs(msgspec.Struct, frozen=True):
    """What one core of the machine that was measured has to do.

    Attributes:
        source: when and where it was measured.
        stages: lane → process → CPU µs a message.
        connect_us: process → CPU µs a connect, from the handshake to the welcome.
        ping_us: CPU µs of the edge for a ping and its answer.
        renewal_us: process → CPU µs to renew a route.
        publish_us: of Redis and dispatch, for a batch's part for one more edge.
        batches: how many messages a batch of dispatch has, at so many a second in a shard.
        edge_bytes: an edge without connections.
        edge_connection_bytes, redis_connection_bytes: one connection more.
    """

    source: str
    stages: dict[Lane, dict[str, Curve]]
    connect_us: dict[str, float]
    ping_us: float
    renewal_us: dict[str, float]
    publish_us: float
    batches: Curve
    edge_bytes: float
    edge_connection_bytes: float
    redis_connection_bytes: float


def at(curve: Sequence[Point], per_s: float) -> float:
    """Return the CPU µs of one at a rate: straight between the points on logarithmic axes, flat outside of them."""
    rates = [point.per_s for point in curve]
    place = bisect_left(rates, per_s)
    if place == 0:
        return curve[0].us
    if place == len(curve):
        return curve[-1].us
    low, high = curve[place - 1], curve[place]
    if min(low.us, high.us) <= 0:
        return high.us
    share = math.log(per_s / low.per_s) / math.log(high.per_s / low.per_s)
    factor: float = (high.us / low.us) ** share
    return low.us * factor


def publishes_a_message(batch: float, edges: int) -> float:
    """Return how many publishes a message costs: a batch is published once to each edge that any of its users is on.

    Of n edges that are chosen alike, b messages meet n (1 - (1 - 1/n)^b).
    """
    met: float = edges * (1 - (1 - 1 / edges) ** batch)
    return met / batch


def learn(results: Results) -> Costs:
    """Return the costs that a report of `scripts/bench --all` tells: of the lanes, the crowd, the heartbeats and the growth.

    Raises:
        NotMeasured: when something is missing.
    """
    if missing := NEEDED - results.measures.keys():
        raise NotMeasured(missing)
    median = {name: measure.median for name, measure in results.measures.items()}
    usual, pings, renewals = (median[f"heartbeat_{name}"] for name in ("usual", "pings", "renewals"))
    many = results.wishes["crowd"]
    assert isinstance(many, int | float)
    more_pings, more_renewals = many * (1 / 5 - 1 / 25), many * (1 / 4 - 1 / 20) / DRAWN
    machine = results.machine
    return Costs(
        source=f"{results.began:%Y-%m-%d}, {machine.processor}, {machine.cores} cores, Linux {machine.kernel}",
        stages={lane: {process: _curve(results, lane, process) for process in PROCESSES} for lane in LANES},
        connect_us={process: median["crowd"](f"{BY_PROCESS}{process}") for process in PROCESSES},
        ping_us=MICRO * (pings("idle_core_share.edge") - usual("idle_core_share.edge")) / more_pings,
        renewal_us={
            process: MICRO * (renewals(f"idle_core_share.{process}") - usual(f"idle_core_share.{process}")) / more_renewals
            for process in ("redis", "edge")
        },
        publish_us=_publish_us(results),
        batches=_batches(results),
        edge_bytes=median["crowd"]("edge_bytes_at_first"),
        edge_connection_bytes=median["crowd"]("edge_bytes_a_connection"),
        redis_connection_bytes=median["crowd"]("redis_bytes_a_connection"),
    )


def _publish_us(results: Results) -> float:
    """Return what one more publish costs: with eight edges a batch has up to eight where it had one."""
    one, eight = (results.measures[name] for name in _PUBLISHES)
    figures = [f"{BY_PROCESS}{process}" for process in ("redis", "dispatch")]
    more_us = sum(eight.median(figure) - one.median(figure) for figure in figures)
    more = publishes_a_message(eight.median("batch_size"), 8) - publishes_a_message(one.median("batch_size"), 1)
    return max(0.0, more_us / more)


def _batches(results: Results) -> Curve:
    """Return how large batches are at rising rates, the last of which is saturation."""
    measures = [results.measures[name] for name in _BATCHES]
    return tuple(
        Point(round(measure.median("deliveries_per_s"), 1), round(measure.median("batch_size"), 2)) for measure in measures
    )


def _curve(results: Results, lane: Lane, process: str) -> Curve:
    measures = [results.measures[name] for name in _OF_LANE[lane]]
    return tuple(
        Point(round(measure.median("deliveries_per_s"), 1), round(measure.median(f"{BY_PROCESS}{process}"), 3))
        for measure in measures
    )


def load(path: Path = KEPT) -> Costs:
    """Read costs from a file that `save` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=Costs)


def save(costs: Costs, path: Path = KEPT) -> None:
    """Keep costs in a file that people can read."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(costs), indent=2) + b"\n")
