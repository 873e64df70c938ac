"""The lease scripts through Lease: one holder at a time, who knows when it is over."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import lua
from tests.scripts.shard import Shard

pytestmark = pytest.mark.anyio

KEY = "push:{0}:lease:test"
LONG_MS = 60_000


async def _take(shard: Shard, owner: str, lease_ms: int = LONG_MS) -> tuple[int, str]:
    taken, value = await shard.redis.register_script(lua.source("lease_take"))(keys=[KEY], args=[owner, lease_ms])
    return taken, value.decode()


async def _call(shard: Shard, script: str, *args: str | int) -> int:
    answer: int = await shard.redis.register_script(lua.source(script))(keys=[KEY], args=list(args))
    return answer


async def _stands_there(shard: Shard) -> str:
    value: Any = await shard.redis.get(KEY)
    text: str = value.decode()
    return text


async def test_free_lease_is_taken_once(shard: Shard) -> None:
    """The first to ask holds it; whoever asks next, be it the same owner, is told who holds it."""
    taken, held = await _take(shard, "me")
    assert taken == 1
    assert held.startswith("me ")
    assert await _stands_there(shard) == held
    assert 0 < await shard.redis.pttl(KEY) <= LONG_MS
    assert await _take(shard, "you") == (0, held)
    assert await _take(shard, "me") == (0, held)


async def test_each_taking_has_a_token_of_its_own(shard: Shard) -> None:
    """The same owner's next lease differs from its last, and the token rises."""
    tokens = []
    for _ in range(20):
        _, held = await _take(shard, "me")
        tokens.append(int(held.removeprefix("me ")))
        assert await _call(shard, "lease_release", held) == 1
    assert sorted(set(tokens)) == tokens
    assert all(len(str(token)) == 16 for token in tokens)


async def test_renewing_lengthens(shard: Shard) -> None:
    """A renewal gives the whole life again, from now."""
    _, held = await _take(shard, "me", 10_000)
    assert await _call(shard, "lease_renew", held, LONG_MS) == 1
    assert 50_000 < await shard.redis.pttl(KEY) <= LONG_MS


async def test_lapsed_lease_is_free(shard: Shard) -> None:
    """A lease that nobody renewed is gone, cannot be renewed, and another takes it."""
    _, held = await _take(shard, "me", 1)
    with anyio.fail_after(60):
        while await shard.redis.exists(KEY):  # noqa: ASYNC110 - it lapses in Redis
            await anyio.sleep(0.001)
    assert await _call(shard, "lease_renew", held, LONG_MS) == 0
    assert not await shard.redis.exists(KEY)
    taken, other = await _take(shard, "you")
    assert (taken, other.split()[0]) == (1, "you")


@pytest.mark.parametrize("script", ["lease_renew", "lease_release"])
async def test_only_ones_own(shard: Shard, script: str) -> None:
    """Another's lease, or one's own of a later taking, is neither lengthened nor given back."""
    _, held = await _take(shard, "me", 10_000)
    args = [LONG_MS] if script == "lease_renew" else []
    for other in ("you 1", "me 1", held + " ", held[:-1], ""):
        assert await _call(shard, script, other, *args) == 0
    assert await _stands_there(shard) == held
    assert 0 < await shard.redis.pttl(KEY) <= 10_000


async def test_released_lease_is_free_at_once(shard: Shard) -> None:
    """A standby need not wait for it to lapse; releasing again does nothing."""
    _, held = await _take(shard, "me")
    assert await _call(shard, "lease_release", held) == 1
    assert await _call(shard, "lease_release", held) == 0
    assert (await _take(shard, "you"))[0] == 1
