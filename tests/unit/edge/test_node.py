"""edge.node: the node id."""

from __future__ import annotations

from edge.node import new_node_id
from router.targets import check_id


def test_a_node_id_is_new_at_every_start() -> None:
    """The name stays, the incarnation does not, and the whole keeps the rule for ids."""
    ids = {new_node_id("edge-1") for _ in range(1_000)}
    assert len(ids) == 1_000
    for node in ids:
        assert check_id(node, "node").startswith("edge-1.")
