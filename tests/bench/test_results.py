"""What is made of the figures: medians, targets, ratios, and a file that brings all of it back."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console, RenderableType

from tests.bench.generator import Latency, Ran
from tests.bench.report import compare, markdown, show
from tests.bench.results import Figures, Measure, Results, a_million, begin, blame, blame_store, delivered, load, save
from tests.bench.sheets import FIGURES
from tests.bench.targets import TARGETS, Target


def ran(**changes: float) -> Ran:
    """Return a run of a thousand messages in two seconds."""
    zero = Latency(0.0, 0.0, 0.0, 0.0)
    values = {"sent": 1_000, "received": 1_000, "in_time": 900, "sending_s": 2.0, "seconds": 2.0, "cpu_s": 0.5}
    rest = dict.fromkeys(
        ("asleep_s", "without_core_s", "lost", "duplicated", "out_of_order", "closed", "refused", "stalled"), 0
    )
    times = {"latency_us": Latency(500.0, 900.0, 990.0, 1_000.0), "last_us": zero, "late_us": zero}
    return Ran(**{**times, **rest, **values, **changes})  # type: ignore[arg-type]


def report(runs: list[Figures], name: str = "fast_x1") -> Results:
    """Return a report with one measure."""
    results = begin({})
    results.measures[name] = Measure("the fast lane", "saturation", runs)
    return results


def text(what: RenderableType) -> str:
    """Return what would be printed."""
    console = Console(width=200)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def runs(*cpu_s: float) -> list[Figures]:
    """Return runs with that cost."""
    return [{"deliveries_per_s": 200_000.0, "cpu_s_a_million": cost, "generator_core_share": 0.1} for cost in cpu_s]


def test_cost() -> None:
    """What processes have spent is told for a million messages, and the stand-in for a store is not our cost."""
    cost = a_million({"redis": 0.002, "edge": 0.004, "null store": 0.5}, 1_000)
    assert round(cost["cpu_s_a_million"], 6) == 6.0
    assert round(cost["cpu_s_a_million.null store"], 6) == 500.0


def test_rate_is_of_the_sending() -> None:
    """Deliveries a second are those of the time in which messages were sent; what came later counts for the cost alone."""
    figures = delivered(ran(), {"redis": 1.0})
    assert figures["deliveries_per_s"] == 450.0
    assert figures["cpu_s_a_million"] == 1_000.0
    assert (figures["p50_ms"], figures["p999_ms"]) == (0.5, 0.99)
    assert "last_p50_ms" not in figures


def test_fan_out_is_told_of_the_last_and_of_a_core() -> None:
    """Of messages to all it is told when the last had them, and what a core delivers, without the stand-in for a store."""
    last = Latency(800.0, 950.0, 990.0, 1_000.0)
    figures = delivered(ran(last_us=last), {"edge": 0.004, "null store": 0.5})  # type: ignore[arg-type]
    assert figures["last_p50_ms"] == 0.8
    assert figures["deliveries_per_cpu_s"] == 250_000.0


def test_blame() -> None:
    """What went wrong is a fault; a generator that was the limit is a remark, made once."""
    measure = Measure("a row", "saturation")
    blame(measure, ran(lost=2, duplicated=1))
    blame(measure, ran(cpu_s=1.9))
    blame(measure, ran(cpu_s=2.0))
    assert measure.faults == ["of 1,000: 2 lost, 1 duplicated"]
    assert len(measure.notes) == 1
    assert "it was the limit" in measure.notes[0]


def test_store_that_is_the_limit() -> None:
    """A store that collect has waited for most of the time is told of, once; one that it has waited for less is not."""
    slow, quick = Measure("slow", "saturation"), Measure("quick", "saturation")
    for share in (0.81, 0.92):
        blame_store(slow, share)
    blame_store(quick, 0.3)
    assert len(slow.notes) == 1
    assert "the store was the limit" in slow.notes[0]
    assert quick.notes == []


def test_late_generator() -> None:
    """An open loop that could not keep its rate says so."""
    assert "behind its rate" in ran(late_us=Latency(0.0, 1_500.0, 0.0, 0.0)).limit  # type: ignore[arg-type]


def test_file(tmp_path: Path) -> None:
    """A report survives its file."""
    results = report(runs(8.0, 9.5, 9.0))
    save(results, tmp_path / "bench.json")
    assert load(tmp_path / "bench.json") == results


def test_targets() -> None:
    """A median beyond its target is called missed, one within is not."""
    assert "missed" in text(show(report(runs(8.0, 9.5, 9.6))))
    assert "missed" not in text(show(report(runs(8.0, 8.5, 9.6))))


def test_ratios() -> None:
    """Beside a peer in the same run a target is a ratio, in which the speed of the machine has no part."""
    for slower in (1.0, 2.0):
        results = report([{"x1_cpu_s_a_million": 9.9 * slower, "x4_cpu_s_a_million": 6.1 * slower}], "peers_fast")
        costs = {"x1_cpu_s_a_million": 22.0 * slower, "x4_cpu_s_a_million": 18.8 * slower}
        results.measures["peers_socketio"] = Measure("Socket.IO", "peers", [costs])
        lines = [line for line in markdown(results).splitlines() if line.startswith("| Socket.IO | x")]
        assert lines == [
            "| Socket.IO | x1: CPU s a million | ≤ 0.45 | 0.45 | met |",
            "| Socket.IO | x4: CPU s a million | ≤ 0.32 | 0.32 | missed |",
        ]


def test_markdown() -> None:
    """The tables of a report can stand in a page: a line a row, all of as many cells."""
    results = report(runs(8.0, 9.5, 9.6))
    results.skipped["a peer"] = "not\nto be had | here"
    lines = [line for line in markdown(results).splitlines() if line.startswith("| the fast lane")]
    assert lines[0] == "| the fast lane | 200,000 ±0% | 9.50 ±8% | 10.0% |"
    assert "| a peer | not to be had \\| here |" in markdown(results)


def test_growth_has_a_row_for_each_point() -> None:
    """Points of one axis have one title, and are told apart by where they stand."""
    results = begin({})
    for at in (1.0, 64.0):
        results.measures[f"growth_shards_{at:g}"] = Measure("shards", "growth", runs(9.0), at=at)
    assert "fast lane): shards" in text(show(results))
    assert "shards: 64 " in text(compare(results, results))


def test_targets_have_figures() -> None:
    """Every target is of a figure that the report knows, and bounds it on one side."""
    for bounds in TARGETS.values():
        assert bounds.keys() <= FIGURES.keys()
        assert all((target.at_most is None) != (target.at_least is None) for target in bounds.values())
    assert Target(at_least=5.0).met(5.0)


def test_compared() -> None:
    """A change shows by its ratio, and is told from what the runs differ by among themselves."""
    before = report(runs(10.0, 10.5, 11.0))
    assert " 0.50 " in text(compare(before, report(runs(5.0, 5.25, 5.5))))
    assert "better" in text(compare(before, report(runs(5.0, 5.25, 5.5))))
    assert "worse" in text(compare(before, report(runs(12.0, 12.5, 13.0))))
    assert "within the spread" in text(compare(before, report(runs(9.0, 9.5, 10.2))))
    assert "one run tells little" in text(compare(before, report(runs(1.0))))


def test_compared_with_more() -> None:
    """What only one of two reports has is left out."""
    assert "the fast lane" not in text(compare(report(runs(1.0)), report(runs(1.0), "transient_x1")))
