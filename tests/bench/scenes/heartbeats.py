"""What keeping quiet connections alive costs, by part: the same crowd with more pings, and with more renewals of routes.

A connection that hears nothing is pinged every `heartbeat_s`; its user's route is renewed within a third of `route_ttl_ms`. The
slope between two frequencies is the cost of one, whatever else an idle system does.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from tests.bench.bench import Bench
from tests.bench.results import Figures
from tests.bench.scenes.crowd import blame_silence, watch
from tests.bench.way import connect

DRAWN: Final = 7 / 8
"""Of the longest time between two renewals, what it is on average: each is drawn from its last quarter (`edge.ledger`)."""


class Beat(NamedTuple):
    """How often, in seconds for each connection; of renewals the longest time."""

    name: str
    title: str
    ping_s: float
    renewal_s: float

    @property
    def settings(self) -> dict[str, Any]:
        """What makes a system do so."""
        return {"heartbeat_s": self.ping_s, "route_ttl_ms": round(3_000 * self.renewal_s)}


BEATS: Final = (
    Beat("usual", "as set: pinged every 25 s, renewed within 20", 25.0, 20.0),
    Beat("pings", "pinged every 5 s", 5.0, 20.0),
    Beat("renewals", "renewed within 4 s", 25.0, 4.0),
)


def run(bench: Bench) -> None:
    """Watch a crowd at each beat, and tell the slopes from the first."""
    size = bench.wishes.crowd
    for _ in bench.rounds:
        usual: Figures = {}
        for beat in BEATS:
            measure = bench.measure(f"heartbeat_{beat.name}", f"{size:,} quiet: {beat.title}", "heartbeats")
            with bench.stand(settings=beat.settings) as stand, stand.generator(size) as generator:
                connect(stand, generator, size)
                figures = watch(stand, bench.wishes.quiet_s)
                blame_silence(measure, generator.state().faults)
            usual = usual or figures
            measure.add({**figures, **slope(beat, usual, figures, size)})


def slope(beat: Beat, usual: Figures, figures: Figures, size: int) -> Figures:
    """Return the CPU µs of one ping or one renewal, by what more of them cost; nothing for the beat that others are held to."""
    base, cost = BEATS[0], figures["idle_core_share"] - usual["idle_core_share"]
    more_pings = size * (1 / beat.ping_s - 1 / base.ping_s)
    more_renewals = size * (1 / beat.renewal_s - 1 / base.renewal_s) / DRAWN
    if more_pings:
        return {"us_a_ping": cost * 1e6 / more_pings}
    return {"us_a_renewal": cost * 1e6 / more_renewals} if more_renewals else {}
