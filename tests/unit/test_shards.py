"""router.shards: the shard of an id, as Redis Cluster computes slots."""

from __future__ import annotations

import pytest

from router.shards import SLOTS, keyslot, shard_of_id, shard_of_target


# 123456789 → 0x31C3 is the check value of the Redis Cluster specification; the others are CLUSTER KEYSLOT's answers.
@pytest.mark.parametrize(
    ("ident", "slot"), [("123456789", 0x31C3), ("foo", 12182), ("bar", 5061), ("hello", 866), ("", 0), ("a", 15495)]
)
def test_keyslot_is_that_of_redis(ident: str, slot: int) -> None:
    """CRC16 (XMODEM) of the UTF-8 bytes, modulo 16384."""
    assert keyslot(ident) == slot % SLOTS


def test_kinds_of_one_id_share_its_shard() -> None:
    """The id decides, not the kind; `all` is an id of its own."""
    assert shard_of_target("user:foo", 7) == shard_of_target("topic:foo", 7) == shard_of_id("foo", 7) == 12182 % 7
    assert shard_of_target("all", 7) == shard_of_id("all", 7) == keyslot("all") % 7


def test_one_shard_has_everything() -> None:
    """With one shard there is no choice."""
    assert {shard_of_id(str(number), 1) for number in range(100)} == {0}


def test_shards_are_used_evenly() -> None:
    """No shard of eight is left out or favoured."""
    counts = [0] * 8
    for number in range(8_000):
        counts[shard_of_id(f"user-{number}", 8)] += 1
    assert min(counts) > 800
    assert max(counts) < 1_200
