"""deploy/: the dashboard and the alert rules speak of figures that there are, and promtool has nothing to say against them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from router import metrics

ROOT: Final = Path(__file__).parents[2]
PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
ALERTS: Final = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text(encoding="utf-8"))
RULES: Final[list[dict[str, Any]]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
RULE_TESTS: Final = (PROMETHEUS / "alerts_test.yml").read_text(encoding="utf-8")
PROMTOOL: Final = shutil.which("promtool")
DASHBOARD: Final[dict[str, Any]] = json.loads((ROOT / "deploy" / "grafana" / "pushway.json").read_text(encoding="utf-8"))

FACTS: Final = [metrics.describe(value) for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]

SERIES: Final[dict[str, set[str]]] = {
    **{facts.name: set(facts.labels) for facts in FACTS if facts.type != "histogram"},
    **{f"{facts.name}_{part}": set(facts.labels) for facts in FACTS if facts.type == "histogram" for part in ("sum", "count")},
    **{f"{facts.name}_bucket": {*facts.labels, "le"} for facts in FACTS if facts.type == "histogram"},
    **{f"process_{name}": set() for name in ("cpu_seconds_total", "open_fds", "max_fds", "resident_memory_bytes")},
    "up": set(),
}
"""What Prometheus gets from us: series → labels."""

OF_TARGETS: Final = {"job", "service", "instance"}
"""Labels that deploy/prometheus/prometheus.yml gives to every series."""

_SERIES: Final = re.compile(r"\b(up|(?:pushway|process)_\w+)\b(?:\{([^}]*)\})?")
_MATCHER: Final = re.compile(r'(\w+)\s*[=!]~?\s*"')
_BY: Final = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


def _panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


TARGETS: Final = [target for panel in _panels() for target in panel["targets"]]
EXPRESSIONS: Final = [part["expr"] for part in (*RULES, *TARGETS)]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expression_speaks_of_what_there_is(expression: str) -> None:
    """Every series exists, has the labels it is chosen by, and those that are summed by."""
    found = _SERIES.findall(expression)
    assert found
    for name, matchers in found:
        assert set(_MATCHER.findall(matchers)) <= SERIES[name] | OF_TARGETS, name
    every = set[str]().union(OF_TARGETS, *(SERIES[name] for name, _ in found))
    for group in _BY.findall(expression):
        assert set(re.findall(r"\w+", group)) <= every


def test_every_rule_says_what_to_do() -> None:
    """Each has a severity, a line, and sentences for whoever it wakes; and is fired in the rules' own test."""
    for rule in RULES:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.search(rf"\b{rule['alert']}\b", RULE_TESTS), rule["alert"]


def test_every_metric_can_be_seen() -> None:
    """What nobody would ever look at needs no figure: each is on the dashboard."""
    seen = {name for expression in EXPRESSIONS for name, _ in _SERIES.findall(expression)}
    for facts in FACTS:
        assert {facts.name, f"{facts.name}_bucket", f"{facts.name}_sum", f"{facts.name}_count"} & seen, facts.name


def test_dashboard_is_whole() -> None:
    """Panels say what they answer, do not overlap, and take their data from where the one who imports it says."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        cells = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    for panel in _panels():
        assert panel["description"].rstrip(".").count("?") == 1, panel["title"]
        assert {part["datasource"]["uid"] for part in (panel, *panel["targets"])} == {"${datasource}"}
    assert [variable["type"] for variable in DASHBOARD["templating"]["list"]] == ["datasource"]


def test_legends_name_labels_that_are_left() -> None:
    """A legend with a label that was summed away shows nothing."""
    for panel in _panels():
        for target in panel["targets"]:
            wanted = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            groups = _BY.findall(target["expr"])
            names = [name for name, _ in _SERIES.findall(target["expr"])]
            left = set(re.findall(r"\w+", groups[0])) if groups else SERIES[names[0]] | OF_TARGETS
            assert wanted <= left, panel["title"]


@pytest.mark.skipif(PROMTOOL is None, reason="promtool comes with Debian's package prometheus")
@pytest.mark.parametrize("words", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")])
def test_promtool_agrees(words: tuple[str, ...]) -> None:
    """The configuration is valid, and each alert fires by the series it is for and on no good day."""
    done = subprocess.run([str(PROMTOOL), *words], capture_output=True, text=True, check=False, cwd=PROMETHEUS)
    assert done.returncode == 0, done.stdout + done.stderr
