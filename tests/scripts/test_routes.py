"""route_set.lua: routes to a node, and the head that a session starts from."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

import lua
from edge.replaced import come as come_text
from tests.scripts.shard import Shard, now_ms

pytestmark = pytest.mark.anyio

NODE, OTHER = "edge-1.aaaaaa", "edge-2.bbbbbb"
TTL_MS = 60_000
SLACK_MS = 5_000
HEAD = 1_732_262_400_123_456


async def call(shard: Shard, held: dict[str, bool], node: str, ttl_ms: int, come: dict[str, str]) -> list[Any]:
    """Call the script as `edge.routes` does."""
    routes, seqs = [shard.keys.route(user) for user in held], [shard.keys.seq(f"user:{user}") for user in held]
    script = shard.redis.register_script(lua.source("route_set"))
    rules = [ttl_ms, shard.settings.offline_grace_ms, shard.settings.events_max]
    args = [node, *rules, *map(int, held.values()), *(come.get(user, "") for user in held), *("phone" for _ in held)]
    keys = shard.keys
    presence = [keys.nodes(), keys.online(), keys.on(node), keys.leaving(), keys.events()]
    reply: list[Any] = await script(keys=[keys.era(), *presence, *routes, *seqs], args=args)
    return reply


async def route_set(shard: Shard, held: dict[str, bool], node: str = NODE, ttl_ms: int = TTL_MS) -> list[Any]:
    """Return what the script tells of each user."""
    return (await call(shard, held, node, ttl_ms, {}))[2:]


async def test_a_route_is_written_and_the_head_told(shard: Shard) -> None:
    """was_live tells whether it stood there before; '' where the target has no counter; 16 digits stay 16 digits."""
    await shard.count("user:a", handed=HEAD)
    assert await route_set(shard, {"a": True, "b": True}) == [0, str(HEAD).encode(), 0, b""]
    assert await route_set(shard, {"a": True, "c": True}) == [1, str(HEAD).encode(), 0, b""]
    assert await shard.nodes_of("a") == [NODE]


async def test_expiry_is_by_the_servers_clock_and_the_key_goes_with_the_last_route(shard: Shard) -> None:
    """The score is Unix ms; the key lives as long as the longest of them."""
    await route_set(shard, {"a": True}, ttl_ms=2 * TTL_MS)
    await route_set(shard, {"a": True}, OTHER)
    scores = dict(await shard.redis.zrange(shard.keys.route("a"), 0, -1, withscores=True))
    assert abs(scores[NODE.encode()] - now_ms() - 2 * TTL_MS) < SLACK_MS
    assert abs(scores[OTHER.encode()] - now_ms() - TTL_MS) < SLACK_MS
    assert abs(await shard.redis.pttl(shard.keys.route("a")) - 2 * TTL_MS) < SLACK_MS


async def test_an_absent_user_loses_this_nodes_route_only(shard: Shard) -> None:
    """The key's life is then that of the routes that are left, and the last one takes the key with it."""
    await route_set(shard, {"a": True}, ttl_ms=2 * TTL_MS)
    await route_set(shard, {"a": True}, OTHER)
    assert await route_set(shard, {"a": False}) == [1, b""]
    assert await shard.nodes_of("a") == [OTHER]
    assert await shard.redis.pttl(shard.keys.route("a")) <= TTL_MS
    assert await route_set(shard, {"a": False}, OTHER) == [1, b""]
    assert not await shard.redis.exists(shard.keys.route("a"))
    assert await route_set(shard, {"a": False}) == [0, b""]


async def test_a_lapsed_route_is_told_and_others_are_cleared_away(shard: Shard) -> None:
    """The edge learns that messages may have been missed; a dead node's route does not pile up."""
    await shard.redis.zadd(shard.keys.route("a"), {NODE: now_ms() - 1, OTHER: now_ms() - 1})
    assert await route_set(shard, {"a": True}) == [0, b""]
    assert await shard.nodes_of("a") == [NODE]


async def test_a_full_batch_is_one_call(shard: Shard) -> None:
    """256 users, some there and some not."""
    held = {f"u{n}": n % 3 > 0 for n in range(256)}
    assert len(await route_set(shard, held)) == 512
    for user in ("u0", "u1", "u255"):
        assert await shard.nodes_of(user) == ([NODE] if held[user] else [])


@pytest.mark.parametrize("trouble", ["route", "seq", "no number", "a number too long"])
async def test_a_broken_key_is_its_users_own_trouble(shard: Shard, trouble: str) -> None:
    """The answer says what is wrong and with which key; the others in the batch are written."""
    route, seq = shard.keys.route("bob"), shard.keys.seq("user:bob")
    match trouble:
        case "route":
            await shard.redis.set(route, "x")
        case "seq":
            await shard.redis.set(seq, "x")
        case _:
            await shard.redis.hset(seq, mapping={"era": 1, "handed": "abc" if trouble == "no number" else "1" * 17})
    alice, _, broken, why, carol, _ = await route_set(shard, {"alice": True, "bob": True, "carol": True})
    assert (alice, broken, carol) == (0, -1, 0)
    assert why.decode().startswith(route if trouble == "route" else seq)
    assert await shard.nodes_of("alice") == await shard.nodes_of("carol") == [NODE]


async def test_what_redis_has_against_the_caller_ends_the_call(real_shard: Shard) -> None:
    """A replica refuses every write: that is no trouble of one user's, and keeps its name."""
    await real_shard.redis.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(ReadOnlyError):
            await route_set(real_shard, {"a": True})
    finally:
        await real_shard.redis.replicaof("NO", "ONE")


async def test_numbers_that_do_not_fit_are_refused(shard: Shard) -> None:
    """Nothing is written then."""
    script = shard.redis.register_script(lua.source("route_set"))
    with pytest.raises(ResponseError, match="ROUTES"):
        await script(keys=[shard.keys.era(), shard.keys.route("a"), shard.keys.seq("user:a")], args=[NODE, TTL_MS])
    assert await shard.nodes_of("a") == []


async def test_routes_are_written_when_memory_is_full(real_shard: Shard) -> None:
    """A full Redis must not cost anybody the connection."""
    await real_shard.redis.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        await real_shard.redis.set("x", "y")
    assert await route_set(real_shard, {"a": True}) == [0, b""]
    assert await real_shard.nodes_of("a") == [NODE]


async def test_the_other_nodes_hear_of_a_device_that_has_come(shard: Shard) -> None:
    """Those with a live route of that user, with the time that the answer tells too, and in one message each."""
    third = "edge-3.cccccc"
    for node, users in ((NODE, {"a": True, "b": True}), (OTHER, {"a": True, "b": True}), (third, {"b": True})):
        await route_set(shard, users, node)
    await shard.redis.zadd(shard.keys.route("a"), {"edge-4.dddddd": now_ms() - 1})
    come = {"a": come_text("a", "phone", "s1") + "\n" + come_text("a", "tablet", "s2"), "b": come_text("b", "phone", "s3")}
    channels = [shard.keys.node_channel(node) for node in (NODE, third, "edge-4.dddddd", OTHER)]
    async with shard.listening(*channels) as ear:
        at_us, *_ = await call(shard, {"a": True, "b": True}, NODE, TTL_MS, come)
        heard = dict(await ear.heard())
    assert abs(at_us / 1000 - now_ms()) < SLACK_MS

    def line(user: str, device: str, session: str) -> str:
        return f'replaced - - - {{"user":"{user}","device":"{device}","session":"{session}","at_us":{at_us}}}'

    assert heard == {
        shard.keys.node_channel(OTHER): "\n".join(
            [line("a", "phone", "s1"), line("a", "tablet", "s2"), line("b", "phone", "s3")]
        ),
        shard.keys.node_channel(third): line("b", "phone", "s3"),
    }


async def test_nobody_is_replaced_by_a_session_that_cannot_begin(shard: Shard) -> None:
    """A user whose keys are broken has no newer session to make room for."""
    await route_set(shard, {"a": True}, OTHER)
    await shard.redis.set(shard.keys.seq("user:a"), "x")
    async with shard.listening(shard.keys.node_channel(OTHER)) as ear:
        await call(shard, {"a": True}, NODE, TTL_MS, {"a": come_text("a", "phone", "s")})
        assert await ear.heard() == []


async def test_each_call_has_a_time_of_its_own(shard: Shard) -> None:
    """Later calls have later times, of sixteen digits: sessions are ordered by them."""
    times = [(await call(shard, {"a": True}, NODE, TTL_MS, {}))[0] for _ in range(5)]
    assert times == sorted(times)
    assert {len(str(at_us)) for at_us in times} == {16}
