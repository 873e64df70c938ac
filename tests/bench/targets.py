"""What is aimed at, on two cores with everything on the machine; missed ones are shown as missed."""

from __future__ import annotations

from typing import Final, NamedTuple


class Target(NamedTuple):
    """A bound on the median of a figure; exactly one of the two is given."""

    at_most: float | None = None
    at_least: float | None = None

    def met(self, value: float) -> bool:
        """Tell whether a median is good enough."""
        if self.at_most is not None:
            return value <= self.at_most
        return self.at_least is not None and value >= self.at_least


TARGETS: Final[dict[str, dict[str, Target]]] = {
    "fast_x1": {"cpu_s_a_million": Target(at_most=9.0), "deliveries_per_s": Target(at_least=150_000)},
    "fast_x4": {"cpu_s_a_million": Target(at_most=6.0), "deliveries_per_s": Target(at_least=150_000)},
    "transient_x1": {"cpu_s_a_million": Target(at_most=14.0)},
    "transient_x4": {"cpu_s_a_million": Target(at_most=14.0)},
    "durable_null_x1": {"cpu_s_a_million": Target(at_most=20.0)},
    "durable_null_x4": {"cpu_s_a_million": Target(at_most=20.0)},
    "fast_at_1000": {"p50_ms": Target(at_most=0.5), "p99_ms": Target(at_most=2.0), "cpu_s_a_million": Target(at_most=200.0)},
    "fast_all_x1": {"deliveries_per_cpu_s": Target(at_least=220_000)},
    "fast_all_x8": {"deliveries_per_cpu_s": Target(at_least=1_500_000)},
    "fast_topic_x1": {"deliveries_per_cpu_s": Target(at_least=220_000)},
    "fast_topic_x8": {"deliveries_per_cpu_s": Target(at_least=1_500_000)},
    # The path without its store.
    "durable_null_at_1000": {"cpu_s_a_million": Target(at_most=450.0)},
    "durable_at_1000": {"p50_ms": Target(at_most=3.0), "p99_ms": Target(at_most=10.0)},
    "connects": {"connects_per_cpu_s": Target(at_least=8_000)},
    "crowd": {
        "connects_per_cpu_s": Target(at_least=8_000),
        "edge_bytes_a_connection": Target(at_most=6_144),
        "redis_bytes_a_connection": Target(at_most=300),
        "idle_core_share": Target(at_most=0.05),
    },
}


ELSEWHERE: Final[dict[str, dict[str, float]]] = {
    "peers_socketio": {"x1_cpu_s_a_million": 19.9, "x4_cpu_s_a_million": 18.8},
    "peers_socketio_streams": {"x1_cpu_s_a_million": 26.1, "x4_cpu_s_a_million": 22.7},
    "peers_nats": {"x1_cpu_s_a_million": 7.7, "x4_cpu_s_a_million": 3.7},
    "peers_nchan": {"x1_cpu_s_a_million": 33.0},
    "peers_python_socketio": {"x1_cpu_s_a_million": 119.0, "x4_cpu_s_a_million": 115.0},
}
"""What peers took on the machine that the targets were set on.

A target divided by that is a bound on the ratio to the same peer in one run, whatever a machine is like.
"""


def at_most_of(peer: str, figure: str) -> float:
    """Return how many times a peer's cost the fast lane may take: `figure` is `x1_cpu_s_a_million` or `x4_…`."""
    outstanding, _, cost = figure.partition("_")
    return (TARGETS[f"fast_{outstanding}"][cost].at_most or 0.0) / ELSEWHERE[peer][figure]
