"""deploy/kubernetes: what copies are added by are figures that there are, of this system alone, and copies that have work."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from router.metrics import CONNECTIONS, STREAM_OLDEST_SECONDS, describe

KUBERNETES: Final = Path(__file__).parents[2] / "deploy" / "kubernetes"
PROMTOOL: Final = shutil.which("promtool")

_RULES: Final = yaml.safe_load((KUBERNETES / "adapter-values.yaml").read_text(encoding="utf-8"))["rules"]
CUSTOM: Final[list[dict[str, Any]]] = _RULES["custom"]
EXTERNAL: Final[list[dict[str, Any]]] = _RULES["external"]
SCALERS: Final[dict[str, dict[str, Any]]] = {
    found["metadata"]["name"]: found["spec"]
    for found in yaml.safe_load_all((KUBERNETES / "scaling.yaml").read_text(encoding="utf-8"))
    if found["kind"] == "HorizontalPodAutoscaler"
}
SETTINGS: Final[dict[str, str]] = yaml.safe_load((KUBERNETES / "settings.yaml").read_text(encoding="utf-8"))["data"]


def _series(rule: dict[str, Any]) -> str:
    return str(rule["seriesQuery"]).partition("{")[0]


def _query(rule: dict[str, Any], matchers: str, by: str = "") -> str:
    """Return what the adapter asks Prometheus."""
    query = str(rule["metricsQuery"])
    for name, said in (("Series", _series(rule)), ("LabelMatchers", matchers), ("GroupBy", by)):
        query = query.replace(f"<<.{name}>>", said)
    assert "<<" not in query
    return query


def test_figures_are_there() -> None:
    """Each rule is of a metric of ours, chosen by labels that it has or Prometheus gives it in Kubernetes."""
    labels = {facts.name: set(facts.labels) for facts in map(describe, (CONNECTIONS, STREAM_OLDEST_SECONDS))}
    for rule in (*CUSTOM, *EXTERNAL):
        chosen = set(re.findall(r"(\w+)(?==~|!=|=\")", rule["seriesQuery"]))
        assert chosen <= labels[_series(rule)] | {"namespace", "pod"}


def test_scalers_ask_for_what_the_adapter_offers() -> None:
    """Edges by their pods' figures, the others by one of the whole system."""
    asked = {name: scaler["metrics"][0] for name, scaler in SCALERS.items()}
    assert asked["edge"]["pods"]["metric"]["name"] in {_series(rule) for rule in CUSTOM}
    offered = {rule["name"]["as"] for rule in EXTERNAL}
    assert {asked[name]["external"]["metric"]["name"] for name in ("collect", "dispatch")} == offered


def test_no_copy_waits_for_nothing() -> None:
    """Of collect and dispatch there is room for more, up to one a shard."""
    for name in ("collect", "dispatch"):
        assert SCALERS[name]["minReplicas"] < SCALERS[name]["maxReplicas"] == int(SETTINGS["PUSHWAY_SHARDS"])


@pytest.mark.skipif(PROMTOOL is None, reason="promtool comes with Debian's package prometheus")
def test_figures_are_of_this_system_alone(tmp_path: Path) -> None:
    """The oldest of all shards: not of a Pushway in another namespace, where it may be worse, nor of another stream."""
    own, all_own = "pushway_stream_oldest_seconds", 'namespace="pushway"'
    series = {
        f'{own}{{{all_own},stream="in",shard="0"}}': 2,
        f'{own}{{{all_own},stream="in",shard="1"}}': 3,
        f'{own}{{{all_own},stream="out",shard="0"}}': 5,
        f'{own}{{{all_own},stream="fast",shard="0"}}': 6,
        f'{own}{{namespace="other",stream="in",shard="0"}}': 70,
        f'{own}{{namespace="other",stream="out",shard="0"}}': 80,
        f'pushway_connections{{{all_own},pod="edge-a"}}': 100,
        f'pushway_connections{{{all_own},pod="edge-b"}}': 200,
    }
    (connections,), (into, out) = CUSTOM, EXTERNAL
    expected = [
        (_query(into, all_own), {"{}": 3}),
        (_query(out, all_own), {"{}": 6}),
        (_query(connections, f'{all_own},pod=~"edge-a|edge-b"', "pod"), {'{pod="edge-a"}': 100, '{pod="edge-b"}': 200}),
    ]
    tests = {
        "interval": "15s",
        "input_series": [{"series": name, "values": f"{value}x4"} for name, value in series.items()],
        "promql_expr_test": [
            {
                "expr": expr,
                "eval_time": "30s",
                "exp_samples": [{"labels": labels, "value": value} for labels, value in samples.items()],
            }
            for expr, samples in expected
        ],
    }
    file = tmp_path / "scaling_test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [], "tests": [tests]}), encoding="utf-8")
    done = subprocess.run([str(PROMTOOL), "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
