"""Which shard a user, topic or target belongs to.

`KEYSLOT(id) mod shards`, with KEYSLOT as Redis Cluster computes it: CRC16 (XMODEM: polynomial 0x1021, initial value 0)
modulo 16384. The whole id counts; an id has no braces, so Redis' rule for hash tags has nothing to apply to.
Source: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model
"""

from __future__ import annotations

from binascii import crc_hqx  # CRC-CCITT with polynomial 0x1021: started at 0 it is the CRC16 of Redis Cluster

from router.targets import target_id

SLOTS = 16384


def keyslot(ident: str) -> int:
    """Return the hash slot, 0 to 16383, that Redis gives to a key of this name."""
    return crc_hqx(ident.encode(), 0) % SLOTS


def shard_of_id(ident: str, shards: int) -> int:
    """Return the shard, 0 to `shards` - 1, of a user or topic id."""
    return keyslot(ident) % shards


def shard_of_target(target: str, shards: int) -> int:
    """Return the shard of `user:<id>`, `topic:<name>` or `all`."""
    return shard_of_id(target_id(target), shards)
