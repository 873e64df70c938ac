"""router.redis_client: connections that lead to a server which is no longer the primary."""

from __future__ import annotations

import pytest
from redis.exceptions import ReadOnlyError

from tests.scripts.shard import HELD, Shard, line

pytestmark = pytest.mark.anyio


async def test_replica_is_left(real_shard: Shard) -> None:
    """A write that is answered with READONLY ends its connection: the next try goes to whoever has the address now."""
    shard = real_shard
    await shard.put_out(line("user:a", 1))
    before = await shard.redis.client_id()
    await shard.redis.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises(ReadOnlyError):
            await shard.intake.bury(HELD, [("1-1", "never there")])
        assert await shard.redis.client_id() != before
    finally:
        await shard.redis.replicaof("NO", "ONE")
