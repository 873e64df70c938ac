"""router.doctor.cluster: what CLUSTER NODES tells, and what is thought of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from router.doctor.cluster import HalfMoved, Node, judge, judge_coverage, read_nodes, slots_of
from router.doctor.findings import Severity
from router.settings import Settings

A: Final = Node("aaa", "10.0.0.1:7000", False, ((0, 8_000), (9_000, 9_000)), ())
B: Final = Node("bbb", "10.0.0.2:7000", False, ((8_001, 8_999), (9_001, 16_383)), ())
OURS: Final = {7: "shard 0", 9_000: "shard 1"}

TEXT: Final = """\
aaa 10.0.0.1:7000@17000 myself,master - 0 1700000000000 3 connected 0-8000 9000 [7->-bbb] [8100-<-bbb]
bbb 10.0.0.2:7000@17000,redis-b.example.com master,fail - 1700000000000 1700000000000 2 disconnected 8001-8999 9001-16383
ccc 10.0.0.3:7000@17000 slave,fail? aaa 0 1700000000000 3 connected
"""


def test_nodes_are_read() -> None:
    """Ranges, single slots, and what the one that tells gives and takes; a suspicion is no failure."""
    a, b, c = read_nodes(TEXT)
    assert a == replace(A, half_moved=(HalfMoved(7, "aaa", "bbb"), HalfMoved(8_100, "bbb", "aaa")))
    assert b == replace(B, failed=True)
    assert (c.address, c.failed, c.ranges) == ("10.0.0.3:7000", False, ())


def test_whole_cluster_is_well() -> None:
    """One finding, and nothing to do."""
    (finding,) = judge([[A, B], [B, A]], OURS)
    assert finding.severity is Severity.OK
    assert "2 slots of ours" in finding.seen


def test_half_moved_slot_is_told_once() -> None:
    """From whom, to whom and what is in it, whichever of the two says so; of a slot without keys of ours nothing is said."""
    move = HalfMoved(7, "aaa", "bbb")
    giving, taking = replace(A, half_moved=(move, HalfMoved(8, "aaa", "bbb"))), replace(B, half_moved=(move,))
    for views in ([[giving, B], [A, taking]], [[giving, B]], [[A, taking]]):
        (finding,) = judge(views, OURS)
        assert finding.severity is Severity.ERROR
        assert "slot 7 (shard 0) is half moved, from 10.0.0.1:7000 to 10.0.0.2:7000" in finding.seen
        assert "redis-cli --cluster fix 10.0.0.1:7000" in finding.remedy
    assert judge([[replace(A, half_moved=(HalfMoved(8, "aaa", "bbb"),)), B]], OURS)[0].severity is Severity.OK


def test_server_that_nobody_knows_any_more() -> None:
    """It is called by its id."""
    (finding,) = judge([[replace(A, half_moved=(HalfMoved(7, "aaa", "gone"),)), B]], OURS)
    assert "to gone" in finding.seen


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([B], "nobody has slot 7 (shard 0)"),
        ([B], "nobody has slot 9000 (shard 1)"),
        ([replace(A, failed=True), B], "10.0.0.1:7000 has failed, and nobody has taken its slot 7 (shard 0) over"),
    ],
)
def test_slot_without_a_primary(nodes: list[Node], said: str) -> None:
    """Each of ours is told."""
    found = judge([nodes], OURS)
    assert len(found) == 2
    assert all(finding.severity is Severity.ERROR and finding.remedy for finding in found)
    assert any(said in finding.seen for finding in found)


def test_slots_of_a_system() -> None:
    """That of what says how many shards there are, and that of each."""
    found = slots_of(Settings(shards=4))
    assert [*found.values()] == ["push:config", "shard 0", "shard 1", "shard 2", "shard 3"]


def test_coverage() -> None:
    """A note where one of them wants all; where it may not be read nothing is said."""
    assert judge_coverage(["no", "", "no"]) == []
    (finding,) = judge_coverage(["no", "yes"])
    assert finding.severity is Severity.NOTE
