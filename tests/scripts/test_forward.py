"""forward.lua: entries on their way to the shard of their targets."""

from __future__ import annotations

import pytest

from router.collect.batch import Forward
from tests.scripts.shard import Shard

pytestmark = pytest.mark.anyio


async def test_order_and_fields(shard: Shard) -> None:
    """Each shard's entries arrive in its `in`, in order, field by field."""
    await shard.intake.forward(
        [Forward(1 + n % 2, {"to": b"user:a", "body": b"%d" % n, "x-trace": b"a \xff\n"}) for n in range(10)]
    )
    for other in (1, 2):
        found = await shard.redis.xrange(f"push:{{{other}}}:in")
        assert [fields for _, fields in found] == [
            {b"to": b"user:a", b"body": b"%d" % n, b"x-trace": b"a \xff\n"} for n in range(10) if 1 + n % 2 == other
        ]


async def test_nothing_to_do(shard: Shard) -> None:
    """Without entries nothing is touched."""
    await shard.intake.forward([])
    assert await shard.redis.keys("push:{[12]}*") == []
