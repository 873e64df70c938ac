"""docs/metrics.md and router/metrics.py say the same, and what they say is kept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from router import metrics

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")

NAMES: Final = {name: value for name, value in vars(metrics).items() if isinstance(value, MetricWrapperBase)}
"""Name in the module → metric."""

FACTS: Final = {metrics.describe(metric).name: metrics.describe(metric) for metric in NAMES.values()}


def _rows() -> list[tuple[str, str, tuple[str, ...], frozenset[str]]]:
    """Return what the page says: name, type, labels and services of each metric."""
    found = re.findall(r"^\| `(pushway_\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|", PAGE, re.MULTILINE)
    return [(name, kind, tuple(re.findall(r"`(\w+)`", labels)), frozenset(of.split(", "))) for name, kind, labels, of in found]


def test_page_is_what_the_code_says() -> None:
    """The tables are as scripts/metrics-page would write them."""
    script = ROOT / "scripts" / "metrics-page"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False, cwd=ROOT.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.access(script, os.X_OK)


def test_page_lists_what_is_registered_once_each() -> None:
    """Read back from the page: names, types and labels are those of the registry, none more, none less."""
    registered = {
        (family.name + "_total" * (family.type == "counter"), family.type)
        for family in REGISTRY.collect()
        if family.name.startswith("pushway_")
    }
    assert {(name, kind) for name, kind, _, _ in _rows()} == registered
    assert Counter(name for name, *_ in _rows()).most_common(1)[0][1] == 1
    assert {name: labels for name, _, labels, _ in _rows()} == {name: facts.labels for name, facts in FACTS.items()}


def test_page_says_which_service_has_which() -> None:
    """As each service's registry has it."""
    shown = {
        service: {family.name for family in metrics.registry_of(service).collect() if family.name.startswith("pushway_")}
        for service in metrics.OF
    }
    for name, _, _, services in _rows():
        assert {service for service, names in shown.items() if name.removesuffix("_total") in names} == services, name


def test_metrics_named_in_the_text_exist() -> None:
    """What the page has you look at is there."""
    assert set(re.findall(r"pushway_\w+[a-z]", PAGE)) <= set(FACTS)


@pytest.mark.parametrize("name", FACTS)
def test_every_metric_says_what_it_answers(name: str) -> None:
    """First what is counted, then a question; in base units."""
    facts = FACTS[name]
    assert re.fullmatch(r"[^?]+\. [A-Z][^.]*\?", facts.help), facts.help
    assert not re.search(r"_(ms|millis|minutes|kb|mb|percent)(_|$)", name)


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_is_kept(name: str) -> None:
    """Something moves it: a figure that nobody keeps would say that all is well for ever."""
    sources = [path for folder in ("router", "edge") for path in (ROOT / folder).rglob("*.py") if path.name != "metrics.py"]
    kept = re.compile(rf"\b{name}\b")
    assert name == "BUILD" or any(kept.search(path.read_text(encoding="utf-8")) for path in sources)


def test_labels_are_small_sets() -> None:
    """Each is explained, and none is a person or a thing that comes and goes."""
    used = {label for facts in FACTS.values() for label in facts.labels}
    assert used == set(metrics.LABELS)
    assert not used & {"user", "topic", "id", "device", "session", "node", "target", "path"}


@pytest.mark.parametrize(
    "series",
    [
        'pushway_dead_total{source="in"} 0.0',
        'pushway_dead_total{source="fast"} 0.0',
        'pushway_outages{server="mongo"} 0.0',
        'pushway_tokens_checked_total{result="refused"} 0.0',
        "pushway_cursors_dropped_total 0.0",
    ],
)
def test_fresh_process_shows_zeros(series: str) -> None:
    """What an alert counts from is there before it first happens."""
    program = """
import edge.figures, prometheus_client, router.metrics as metrics
for service in metrics.OF:
    print(prometheus_client.generate_latest(metrics.registry_of(service)).decode())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert series in done.stdout.splitlines()
    assert 'pushway_closes_total{code="4002"} 0.0' in done.stdout.splitlines()
    assert "_created" not in done.stdout
