"""entries_append.lua: what producers send over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ResponseError

import lua
from tests.scripts.shard import Shard

pytestmark = pytest.mark.anyio


async def _append(shard: Shard, *entries: tuple[bytes, ...], most: int = 100) -> Any:  # noqa: ANN401 - ids, or a length
    script = shard.redis.register_script(lua.source("entries_append"))
    return await script(keys=[shard.keys.intake()], args=[most, *(part for one in entries for part in (len(one), *one))])


async def test_order_and_fields(shard: Shard) -> None:
    """Entries stand there in order, field by field, under the ids that are returned."""
    entries = [(b"to", b"user:a", b"body", b"%d" % n, b"x-t", b"a \xff\n") for n in range(10)]
    ids = await _append(shard, *entries)
    found = await shard.redis.xrange(shard.keys.intake())
    assert [entry_id for entry_id, _ in found] == ids == sorted(ids, key=lambda one: [int(part) for part in one.split(b"-")])
    assert [fields for _, fields in found] == [{b"to": b"user:a", b"body": b"%d" % n, b"x-t": b"a \xff\n"} for n in range(10)]


async def test_high_water(shard: Shard) -> None:
    """While as many wait as may, nothing is appended, and the length is told."""
    assert len(await _append(shard, (b"a", b"1"), (b"a", b"2"), most=1)) == 2
    assert await _append(shard, (b"a", b"3"), most=2) == 2
    assert len(await _append(shard, (b"a", b"3"), most=3)) == 1
    assert await shard.redis.xlen(shard.keys.intake()) == 3


async def test_nothing_to_append(shard: Shard) -> None:
    """No entries leave no stream behind."""
    await shard.redis.delete(shard.keys.intake())
    assert await _append(shard) == []
    assert not await shard.redis.exists(shard.keys.intake())


async def test_full_memory(real_shard: Shard) -> None:
    """All of it is refused, as it would be one by one."""
    used = (await real_shard.redis.info("memory"))["used_memory"]
    await real_shard.redis.config_set("maxmemory", used // 2)
    with pytest.raises(ResponseError, match="command not allowed when used memory"):
        await _append(real_shard, (b"a", b"1"), (b"a", b"2"))
    assert await real_shard.redis.xlen(real_shard.keys.intake()) == 0
