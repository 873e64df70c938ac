"""What all scenes have at hand: the wishes, the report, systems to measure, and the loads that several of them use."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.bench.generator import Generator
from tests.bench.results import Kind, Measure, Results
from tests.bench.stand import Stand
from tests.bench.stores import NullStore
from tests.bench.way import System, Way
from tests.bench.wishes import Wishes
from tests.servers import Store

WARM_UP_S: Final = 1.0

Say = Callable[[str], None]


class Bench:
    """A bench at work.

    Args:
        wishes: what to measure.
        results: takes what is measured.
        say: is told what is being done.
        warn: is told what takes minutes.
    """

    def __init__(self, wishes: Wishes, results: Results, say: Say, warn: Say) -> None:
        self.wishes = wishes
        self.results = results
        self.say = say
        self.warn = warn

    def measure(self, name: str, title: str, kind: Kind = "connections", at: float | None = None) -> Measure:
        """Return a row of the report, which may have runs already."""
        self.say(title if at is None else f"{title}: {at:,g}")
        return self.results.measures.setdefault(name, Measure(title, kind, at=at))

    @property
    def rounds(self) -> range:
        """The runs of each scenario."""
        return range(self.wishes.runs)

    @contextmanager
    def stand(self, *, store: type[Store] = NullStore, **more: Any) -> Iterator[Stand]:  # noqa: ANN401 - as Stand has them
        """Yield a running system; more: `edges`, `settings`."""
        self.say("starting a system")
        with (
            tempfile.TemporaryDirectory() as folder,
            Stand(Path(folder), store=store, redis_url=self.wishes.redis_url, **more) as stand,
        ):
            yield stand

    @contextmanager
    def seated(self, system: System, users: int | None = None) -> Iterator[Generator]:
        """Yield a generator whose users are connected."""
        count = users or self.wishes.users
        with system.generator(count) as generator:
            generator.connect(count)
            yield generator

    def warm_up(self, ways: Sequence[Way]) -> None:
        """Send something each way, so that what is done once has been done."""
        for way in ways:
            self.say(f"warming up: {way.title}")
            way.generator.saturate(way.system.stream(way.lane), 1, WARM_UP_S, transient=way.transient)
