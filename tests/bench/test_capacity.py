"""tests/bench/capacity: the sums are right, what is enough is found, and nothing that was measured is learnt twice."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import pytest

from tests.bench.capacity import report
from tests.bench.capacity.check import Foretold
from tests.bench.capacity.costs import (
    KEPT,
    MICRO,
    NEEDED,
    PROCESSES,
    Costs,
    NotMeasured,
    Point,
    at,
    learn,
    load,
    publishes_a_message,
)
from tests.bench.capacity.growth import first_break, grown, plans
from tests.bench.capacity.plan import RENEWAL_S, Limits, Load, more_publishes_a_message, plan
from tests.bench.capacity.report import short
from tests.bench.results import Measure, Results, begin
from tests.bench.scenes.heartbeats import DRAWN

ROOT: Final = Path(__file__).parents[2]

FLAT: Final = (Point(1_000.0, 10.0),)
COSTS: Final = Costs(
    source="made up",
    stages={lane: dict.fromkeys(("redis", "dispatch", "collect", "edge"), FLAT) for lane in ("fast", "durable")},
    connect_us=dict.fromkeys(("redis", "dispatch", "collect", "edge"), 0.0),
    ping_us=0.0,
    renewal_us={"redis": 0.0, "edge": 0.0},
    publish_us=0.0,
    batches=(Point(1_000.0, 100.0),),
    edge_bytes=1e6,
    edge_connection_bytes=5_000.0,
    redis_connection_bytes=300.0,
)
"""Every stage takes 10 µs for a message, and nothing else costs anything."""


def test_curve_is_straight_on_logarithmic_axes_and_flat_beyond() -> None:
    """Half way between two points lies their geometric mean."""
    curve = (Point(100.0, 40.0), Point(10_000.0, 10.0))
    assert at(curve, 1.0) == 40.0
    assert at(curve, 1_000.0) == pytest.approx(20.0)
    assert at(curve, 1e9) == 10.0


def test_curve_of_nothing_costs_nothing() -> None:
    """Dispatch has no part in some lanes, and zero has no logarithm."""
    assert at((Point(100.0, 0.0), Point(10_000.0, 0.0)), 1_000.0) == 0.0


def test_units_are_as_many_as_their_share_asks_for() -> None:
    """100,000 messages of 10 µs are one core: two units, when each may be loaded to six tenths."""
    planned = plan(Load(1_000, 100_000.0, durable=1.0), COSTS, Limits(share=0.6))
    assert (planned.edges.count, planned.dispatch.count, planned.collect.count, planned.primaries.count) == (2, 2, 2, 2)
    assert planned.shards == 2
    assert planned.edges.used == pytest.approx(0.5)
    assert planned.cores == {name: pytest.approx(1.0) for name in ("edges", "dispatch", "collect", "redis")}


def test_what_is_not_durable_costs_collect_and_the_store_nothing() -> None:
    """The fast lane passes them by."""
    planned = plan(Load(1_000, 100_000.0, durable=0.0), COSTS)
    assert planned.cores["collect"] == 0.0
    assert planned.stored_bytes == 0.0
    assert planned.stores.count == 1


def test_dearer_when_spread_takes_more_units() -> None:
    """A message costs more where fewer come at once: what one unit could nearly do may take more than two."""
    falling = {"redis": FLAT, "dispatch": FLAT, "collect": FLAT, "edge": (Point(1_000.0, 100.0), Point(100_000.0, 10.0))}
    costs = msgspec.structs.replace(COSTS, stages=dict.fromkeys(("fast", "durable"), falling))
    planned = plan(Load(1_000, 100_000.0), costs, Limits(share=0.6))
    assert planned.edges.count > 2
    assert planned.cores["edges"] / planned.edges.count <= 0.6


def test_batch_meets_each_edge_once() -> None:
    """With one edge a batch is one publish; with very many each message is one."""
    assert publishes_a_message(100, 1) == pytest.approx(1 / 100)
    assert publishes_a_message(100, 1_000_000) == pytest.approx(1.0, rel=1e-3)


def test_host_is_bound_by_what_it_has_least_of() -> None:
    """Quiet users take memory; loud ones CPU; long bodies bandwidth."""
    quiet = plan(Load(100_000_000, 1.0), COSTS)
    loud = plan(Load(1_000, 10_000_000.0, body_bytes=1), COSTS)
    long = plan(Load(1_000, 1_000_000.0, body_bytes=65_536), COSTS)
    assert [planned.edge_hosts.binding for planned in (quiet, loud, long)] == ["memory", "CPU", "bandwidth"]


def test_first_break_is_the_part_that_needs_another() -> None:
    """And the load is that many times as large then."""
    load_ = Load(1_000, 40_000.0, durable=1.0)
    limits = Limits(share=0.6, store_inserts_per_s=1e9)
    broken = first_break(load_, COSTS, limits)
    assert broken.at == pytest.approx(1.5, rel=0.03)
    before, after = plan(load_, COSTS, limits), plan(grown(load_, broken.at), COSTS, limits)
    assert any(new.count > old.count for old, new in zip(before.parts, after.parts, strict=True))


def test_sizes_keep_the_messages_of_a_user() -> None:
    """What grows is the number of people."""
    rows = [planned.load for planned, _ in plans(Load(1_000, 500.0), COSTS, Limits(), (10_000, 100_000))]
    assert rows == [Load(10_000, 5_000.0), Load(100_000, 50_000.0)]


def test_ratio_above_one_is_careful() -> None:
    """The model said more than was measured."""
    assert Foretold("", "", 2.0, 1.0).ratio == 2.0


@pytest.mark.parametrize(("value", "words"), [(12_345_678, "12.3 M"), (950, "950"), (1e12, "1 T")])
def test_numbers_are_short(value: float, words: str) -> None:
    """Three digits and a letter."""
    assert short(value) == words


def test_kept_costs_answer() -> None:
    """With the costs that stand beside the code, ten million users take no part by the ten thousand."""
    planned = plan(Load(10_000_000, 1_000_000.0), load(KEPT))
    for part in planned.parts:
        assert 1 <= part.count < 10_000
    assert planned.shards >= planned.primaries.count


def test_more_of_anything_never_takes_less() -> None:
    """Of users and messages. With a larger share of stored ones more is stored, and a message may cost less."""
    costs, base = load(KEPT), Load(1_000_000, 50_000.0)
    cores = sum(plan(base, costs).cores.values())
    for more in (replace(base, users=2_000_000), replace(base, messages_per_s=100_000.0)):
        assert sum(plan(more, costs).cores.values()) > cores
    assert plan(replace(base, durable=1.0), costs).stored_bytes > plan(base, costs).stored_bytes


def test_publishes_are_few_while_batches_are_large() -> None:
    """With one edge there are none more; with many each message of a small batch goes to one of its own."""
    costs = msgspec.structs.replace(COSTS, batches=(Point(1_000.0, 2.0), Point(100_000.0, 1_000.0)))
    assert more_publishes_a_message(costs, 1_000.0, 1) == 0.0
    assert more_publishes_a_message(costs, 1_000.0, 100) == pytest.approx(0.5, abs=0.01)
    assert more_publishes_a_message(costs, 100_000.0, 100) == pytest.approx(0.1, abs=0.01)


def _report() -> Results:
    """Return a report in which each process takes 10 µs for a message, and Redis 17 with eight edges, at batches of eight."""
    results = begin({"crowd": 10_000})
    figures = {"deliveries_per_s": 1_000.0, "batch_size": 8.0, "edge_bytes_at_first": 7e7}
    figures |= {f"cpu_s_a_million.{process}": 10.0 for process in PROCESSES}
    figures |= {f"{server}_bytes_a_connection": 300.0 for server in ("edge", "redis")}
    beats = {"usual": 0.02, "pings": 0.02, "renewals": 0.02 + 10_000 * (1 / 4 - 1 / 20) / DRAWN * 20e-6, "": 0.0}
    for name in NEEDED:
        share = beats[name.partition("heartbeat_")[2]]
        more = {"cpu_s_a_million.redis": 17.0} if name == "growth_edges_at_rate_8" else {}
        shares = {f"idle_core_share.{process}": share for process in ("edge", "redis")}
        results.measures[name] = Measure(name, "growth", [figures | shares | more])
    return results


def test_costs_are_learnt() -> None:
    """A publish by how many more eight edges get of a batch than one; a renewal by how often they come."""
    costs = learn(_report())
    assert costs.publish_us == pytest.approx(7 / (publishes_a_message(8, 8) - 1 / 8))
    assert costs.renewal_us == {"redis": pytest.approx(20.0), "edge": pytest.approx(20.0)}
    assert costs.ping_us == pytest.approx(0.0)
    assert costs.stages["fast"]["edge"][0] == Point(1_000.0, 10.0)
    assert (costs.edge_bytes, costs.batches[0]) == (7e7, Point(1_000.0, 8.0))


def test_what_a_report_lacks_is_named() -> None:
    """So that whoever has measured the lanes alone knows what else it takes."""
    results = begin({})
    results.measures["crowd"] = Measure("crowd", "connections")
    with pytest.raises(NotMeasured, match=r"lacks .*heartbeat_pings.*scripts/bench --all") as caught:
        learn(results)
    assert "crowd" not in caught.value.missing


def test_tables_of_a_page_are_replaced_by_their_headings() -> None:
    """What stands around them stays; a page without such a table is another page."""
    page = "before\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n| c |\n| --- |\n\nbehind\n"
    assert report.put_in(page, "| a | b |\n| --- | --- |\n| 3 | 4 |\n") == page.replace("| 1 | 2 |", "| 3 | 4 |")
    with pytest.raises(ValueError, match=r"\| d \|"):
        report.put_in(page, "| d |\n| --- |\n")


def test_page_says_what_the_kept_costs_come_to() -> None:
    """docs/scaling.md has the table of the model, and what it tells of the sizes follows from it."""
    costs = load(KEPT)
    rows = list(plans(Load(10_000_000, 1_000_000.0), costs, Limits()))
    assert report.markdown(rows) in (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    by_users = {planned.load.users: (planned, break_) for planned, break_ in rows}
    for users in (1_000, 10_000, 100_000):
        planned, break_ = by_users[users]
        assert {part.count for part in planned.parts} == {1}
        assert (break_.part in {"edges", "Redis primaries"}, break_.binding) == (True, "CPU")
    million, ten = by_users[1_000_000][0], by_users[10_000_000][0]
    assert million.shards == million.primaries.count > million.edges.count > 1
    renewals = ten.load.users / RENEWAL_S
    assert round(renewals, -4) == 570_000
    rest = ten.cores["redis"] - renewals * costs.renewal_us["redis"] / MICRO
    assert rest > ten.cores["redis"] / 2
    assert more_publishes_a_message(costs, ten.load.messages_per_s / ten.shards, ten.edges.count) > 0.4
    assert round(ten.stored_bytes / 1e12) == 876
    prices = {users: planned.cpu_us_a_message for users, (planned, _) in by_users.items()}
    assert prices[10_000] > 2 * prices[100_000]
    assert prices[100_000] == pytest.approx(prices[100_000_000], rel=0.2)


def test_script_answers() -> None:
    """`scripts/capacity --json` is JSON, and names what breaks first."""
    words = [sys.executable, str(ROOT / "scripts" / "capacity"), "--users", "50000", "--messages", "2000", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    answer = msgspec.json.decode(done.stdout)
    assert answer["load"]["users"] == 50_000
    assert answer["breaks_first"]["at_times"] > 1
