"""router.keys: the names that stand in Redis."""

from __future__ import annotations

from router.keys import Keys, config_key


def test_names_are_those_of_the_contract() -> None:
    """Producers, people and bridges rely on each of these."""
    keys = Keys("push", 0)
    assert [
        keys.intake(),
        keys.out(),
        keys.route("alice"),
        keys.nodes(),
        keys.online(),
        keys.on("edge-1.k3f9"),
        keys.leaving(),
        keys.events(),
        keys.info("edge-1.k3f9"),
        keys.node_channel("edge-1.k3f9"),
        keys.tap_channel("edge-1.k3f9"),
        keys.topic_channel("news"),
        keys.all_channel(),
        keys.answer_channel("5f0c"),
        keys.seq("user:alice"),
        keys.pending(),
        keys.ack("alice"),
        keys.dead(),
        keys.offline(),
        keys.trace(),
        keys.lease("collect"),
        config_key("push"),
    ] == [
        "push:{0}:in",
        "push:{0}:out",
        "push:{0}:route:alice",
        "push:{0}:nodes",
        "push:{0}:online",
        "push:{0}:on:edge-1.k3f9",
        "push:{0}:leaving",
        "push:{0}:events",
        "push:{0}:info:edge-1.k3f9",
        "push:{0}:node:edge-1.k3f9",
        "push:{0}:tap:edge-1.k3f9",
        "push:{0}:topic:news",
        "push:{0}:all",
        "push:{0}:answer:5f0c",
        "push:{0}:seq:user:alice",
        "push:{0}:pending",
        "push:{0}:ack:alice",
        "push:{0}:dead",
        "push:{0}:offline",
        "push:{0}:trace",
        "push:{0}:lease:collect",
        "push:config",
    ]


def test_shard_and_prefix_keep_names_apart() -> None:
    """No name of one shard or tenant is one of another."""
    names = {Keys(prefix, shard).intake() for prefix in ("push", "tenant") for shard in (0, 1, 10)}
    assert len(names) == 6
