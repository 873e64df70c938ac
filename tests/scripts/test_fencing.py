"""Every script that writes for a role refuses whoever does not hold the lease, and changes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from router.collect.eras import NONE_YET
from router.dispatch import Lane
from router.errors import Fenced
from router.leavers import Leaving
from router.streams import NEW, TAKEN_BEFORE
from tests.scripts.shard import HELD, STALE, Shard, item, line

pytestmark = pytest.mark.anyio

Call = Callable[[Shard, str], Awaitable[object]]

CALLS: dict[str, Call] = {
    "take new": lambda shard, held: shard.intake.take(held, NEW),
    "take again": lambda shard, held: shard.intake.take(held, TAKEN_BEFORE),
    "sequence": lambda shard, held: shard.place(held, [item("user:a", "1")], {"user:a": 0}),
    "append": lambda shard, held: shard.intake.append(
        held, lines=[line("user:a", 9)], heads={"user:a": 9}, entry_ids=["1-0"], item_ids=["user:a 0"], trim=True
    ),
    "begin era": lambda shard, held: shard.intake.begin_era(held, NONE_YET),
    "confirm era": lambda shard, held: shard.intake.confirm_era(held, shard.era),
    "bury in": lambda shard, held: shard.intake.bury(held, [("1-0", "no")]),
    "dispatch": lambda shard, held: shard.outlet.dispatch(held, 10),
    "dispatch fast": lambda shard, held: shard.outlet.dispatch(held, 10, Lane.FAST),
    "see to node": lambda shard, held: Leaving(shard.redis, shard.keys, shard.settings).see_to_node(held),
    "say offline": lambda shard, held: Leaving(shard.redis, shard.keys, shard.settings).say(held),
    "check online": lambda shard, held: Leaving(shard.redis, shard.keys, shard.settings).check(held, 0),
}


async def _fill(shard: Shard) -> None:
    """Leave something in each key that a script could change."""
    for number in (1, 2):
        await shard.redis.xadd(shard.keys.intake(), {"to": "user:a", "text": "hi"}, id=f"{number}-0")
        await shard.redis.xadd(shard.keys.out(), {"line": line("user:a", number)}, id=f"{number}-0")
        await shard.redis.xadd(shard.keys.fast(), {"to": "user:a", "tll": "1"}, id=f"{number}-0")
    for stream in (shard.keys.out(), shard.keys.fast()):
        await shard.redis.xreadgroup("dispatch", "dispatch", {stream: ">"}, count=1)
    await shard.redis.hset(shard.keys.pending(), "user:a 0", "5")
    await shard.count("user:a", given=5, handed=4)
    await shard.route("a", "edge.1", node_ms=-1)
    await shard.redis.zadd(shard.keys.nodes(), {"edge.0": 1})
    await shard.redis.hset(shard.keys.online(), mapping={"b": 1, "c": 1})
    await shard.redis.hset(shard.keys.on("edge.0"), "b", "phone")
    await shard.redis.zadd(shard.keys.leaving(), {"b": 1})


async def _everything(shard: Shard) -> dict[str, Any]:
    """Return all that stands in Redis but the leases."""
    seen: dict[str, Any] = {}
    streams = ((shard.keys.intake(), "collect"), (shard.keys.out(), "dispatch"), (shard.keys.fast(), "dispatch"))
    for stream, group in streams:
        info = await shard.redis.xinfo_groups(stream)
        seen[stream] = (
            await shard.redis.xrange(stream),
            await shard.pending_ids(stream, group),
            info[0]["last-delivered-id"],
        )
    for key in (shard.keys.pending(), shard.keys.seq("user:a"), shard.keys.era(), shard.keys.online(), shard.keys.on("edge.0")):
        seen[key] = await shard.redis.hgetall(key)
    seen["routes"] = await shard.nodes_of("a")
    seen["leaving"] = await shard.redis.zrange(shard.keys.leaving(), 0, -1)
    seen["events"] = await shard.ids(shard.keys.events())
    seen["keys"] = sorted(set(await shard.redis.keys()) - {shard.keys.lease(role).encode() for role in ("collect", "dispatch")})
    return seen


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize("lease", ["you 1732262400123456", STALE, None], ids=["another's", "own, later", "lapsed"])
async def test_lost_lease_fences(shard: Shard, call: Call, lease: str | None) -> None:
    """The lease is another's, our own of a later taking, or gone: `Fenced`, and Redis is as it was."""
    await _fill(shard)
    before = await _everything(shard)
    for role in ("collect", "dispatch"):
        if lease is None:
            await shard.redis.delete(shard.keys.lease(role))
        else:
            await shard.redis.set(shard.keys.lease(role), lease)
    with pytest.raises(Fenced, match=f"^FENCED the lease is not held by {HELD}"):
        await call(shard, HELD)
    assert await _everything(shard) == before


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_held_lease_lets_through(shard: Shard, call: Call) -> None:
    """The same calls change something when the lease is held, so that the test above proves something."""
    await _fill(shard)
    before = await _everything(shard)
    await call(shard, HELD)
    # What is taken stays; and it is confirmed already, or nothing could be placed.
    if call not in {CALLS["take new"], CALLS["take again"], CALLS["confirm era"]}:
        assert await _everything(shard) != before


async def test_role_is_fenced_by_its_own_lease(shard: Shard) -> None:
    """Holding collect's lease is no leave to dispatch."""
    await shard.redis.set(shard.keys.lease("dispatch"), STALE)
    await shard.intake.take(HELD, NEW)
    with pytest.raises(Fenced):
        await shard.outlet.dispatch(HELD, 10)
