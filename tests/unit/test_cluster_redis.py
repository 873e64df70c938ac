"""router.cluster_redis: where a command goes."""

from __future__ import annotations

import pytest
from redis.crc import key_slot

from router.cluster_redis import key_of, slot_of


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("GET", "a"), "a"),
        (("HSET", b"a", "f", "v"), "a"),
        (("EVALSHA", "0" * 40, 2, "a", "b", "c"), "a"),
        (("EVALSHA", "0" * 40, 0, "c"), None),
        (("XREAD", "COUNT", 1, "BLOCK", 10, b"STREAMS", "a", "b", "0", "0"), "a"),
        (("XINFO GROUPS", "a"), "a"),
        (("XGROUP", "CREATE", "a", "g", "0"), "a"),
        (("PUBSUB SHARDNUMSUB", "a", "b"), "a"),
        (("SPUBLISH", "a", "m"), "a"),
        (("TIME",), None),
        (("CONFIG GET", "bind"), None),
        (("SCRIPT LOAD", "return 1"), None),
        (("SCAN", "0", "MATCH", "*"), None),
    ],
)
def test_the_key_of_a_command(command: tuple[object, ...], key: str | None) -> None:
    """The first one, or the first channel."""
    assert key_of(command) == key


@pytest.mark.parametrize("key", ["push:config", "push:{0}:in", "push:{13}:route:alice", "{}a", "a{b", "{a}{b}", "é{ü}"])
def test_the_slot_of_a_key(key: str) -> None:
    """As Redis says, and the driver."""
    assert slot_of(key) == key_slot(key.encode())
