"""router.tallied: figures that are added up when they are read."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from router.tallied import TalliedCounter, TalliedHistogram

BOUNDS = (0.5, 1.0, 2.5)

# Halves and quarters, so that sums are the same in whatever order they are added up.
READS = st.lists(st.lists(st.integers(0, 16).map(lambda quarters: quarters / 4), max_size=5), min_size=1, max_size=4)


def _histogram_reads(kind: type[Histogram], reads: Sequence[Sequence[float]]) -> list[bytes]:
    """Return what is shown after each of some groups of samples, which go to two labels in turn."""
    registry = CollectorRegistry()
    histogram = kind("x", "Why?", ["stage"], buckets=BOUNDS, registry=registry)
    shown = []
    for samples in reads:
        for nth, sample in enumerate(samples):
            histogram.labels("ab"[nth % 2]).observe(sample)
        shown.append(generate_latest(registry))
    return shown


def _counter_reads(kind: type[Counter], reads: Sequence[Sequence[float]]) -> list[bytes]:
    registry = CollectorRegistry()
    counter = kind("x", "Why?", registry=registry)
    shown = []
    for amounts in reads:
        for amount in amounts:
            counter.inc(amount)
        shown.append(generate_latest(registry))
    return shown


@given(READS)
def test_a_histogram_shows_what_the_librarys_shows(reads: list[list[float]]) -> None:
    """At every read, with samples on a bound, between two and above all of them."""
    assert _histogram_reads(TalliedHistogram, reads) == _histogram_reads(Histogram, reads)


@given(READS)
def test_a_counter_shows_what_the_librarys_shows(reads: list[list[float]]) -> None:
    """At every read."""
    assert _counter_reads(TalliedCounter, reads) == _counter_reads(Counter, reads)


def test_a_read_of_one_value_adds_up_too() -> None:
    """As tests read figures."""
    registry = CollectorRegistry()
    TalliedCounter("x", "Why?", registry=registry).inc()
    assert registry.get_sample_value("x_total") == 1
