"""Figures that every message moves: the library's, but moved without its locks and checks, and added up when they are read.

What a lone message costs is mostly code and data that the processor has to fetch, and the library's way to one figure is long:
five calls, a lock a value, an object a value. Here it is an addition. A service lives on the event loop's thread, the only one
that may move these figures or read them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping

from prometheus_client import Counter, Histogram
from prometheus_client.samples import Sample


class TalliedCounter(Counter):
    """A counter without exemplars."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._moved = 0.0

    def inc(self, amount: float = 1, exemplar: Mapping[str, str] | None = None) -> None:
        """Count on by what is never negative."""
        del exemplar
        self._moved += amount

    def _child_samples(self) -> Iterable[Sample]:
        moved, self._moved = self._moved, 0.0
        self._value.inc(moved)
        return super()._child_samples()


class TalliedHistogram(Histogram):
    """A histogram without exemplars."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._moved = [0] * len(self._upper_bounds)
        self._moved_sum = 0.0

    def observe(self, amount: float, exemplar: Mapping[str, str] | None = None) -> None:
        """Count a sample; the last bound is above all of them."""
        del exemplar
        self._moved[bisect_left(self._upper_bounds, amount)] += 1
        self._moved_sum += amount

    def _child_samples(self) -> Iterable[Sample]:
        for bucket, moved in zip(self._buckets, self._moved, strict=True):
            bucket.inc(moved)
        self._sum.inc(self._moved_sum)
        self._moved, self._moved_sum = [0] * len(self._moved), 0.0
        return super()._child_samples()
