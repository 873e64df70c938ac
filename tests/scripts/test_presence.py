"""Who is online: what route_set, offline_say, node_gone, online_check and presence_forget make of it together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pytest
from redis.exceptions import OutOfMemoryError, ResponseError

import lua
from router.errors import Fenced
from router.leavers import Gone, Leaving, Said
from router.presence import NodePresence, online_users, presence_of
from tests.scripts.shard import HELD, STALE, Shard, now_ms

pytestmark = pytest.mark.anyio

ONE, TWO, THREE = "edge-1.aaaaaa", "edge-2.bbbbbb", "edge-3.cccccc"
TTL_MS: Final = 60_000
GRACE_MS: Final = 5_000
SLACK_MS: Final = 5_000


class Stage:
    """A shard, its edges and its owner of dispatch."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.redis, self.keys = shard.redis, shard.keys
        self.leaving = Leaving(shard.redis, shard.keys, shard.settings)

    async def beat(self, *nodes: str, ms: int = 60_000) -> None:
        """Have nodes count as alive for so long; negative when that is over."""
        await self.redis.zadd(self.keys.nodes(), {node: now_ms() + ms for node in nodes})

    async def write(self, node: str, held: dict[str, bool], devices: Sequence[str] = ("phone",)) -> None:
        """Write routes as `edge.routes` does."""
        keys, flags, n = self.keys, [int(is_held) for is_held in held.values()], len(held)
        presence = [keys.nodes(), keys.online(), keys.on(node), keys.leaving(), keys.events()]
        names = [keys.era(), *presence, *map(keys.route, held), *(keys.seq(f"user:{user}") for user in held)]
        args = [node, TTL_MS, GRACE_MS, 100_000, *flags, *[""] * n, *[",".join(devices)] * n]
        await self.redis.register_script(lua.source("route_set"))(keys=names, args=args)

    async def come(self, node: str, *users: str, devices: Sequence[str] = ("phone",)) -> None:
        """Have sessions begin, or their routes renewed."""
        await self.write(node, dict.fromkeys(users, True), devices)

    async def go(self, node: str, *users: str) -> None:
        """Have the last sessions of users on a node end."""
        await self.write(node, dict.fromkeys(users, False))

    async def pass_grace(self) -> None:
        """Have everybody's time come."""
        for user in await self.redis.zrange(self.keys.leaving(), 0, -1):
            await self.redis.zadd(self.keys.leaving(), {user: now_ms() - 1})

    async def say(self) -> Said:
        """Have the owner say offline."""
        return await self.leaving.say(HELD)

    async def told(self) -> list[str]:
        """Return the events, in words."""
        fields = await self.shard.entries(self.keys.events())
        return [" ".join(one[name] for name in ("event", "user", "node") if name in one) for one in fields]

    async def on(self, node: str) -> dict[str, str]:
        """Return who is noted on a node."""
        found = await self.redis.hgetall(self.keys.on(node))
        return {user.decode(): devices.decode() for user, devices in found.items()}


@pytest.fixture
async def stage(shard: Shard) -> Stage:
    """Return a stage with two nodes that live."""
    found = Stage(shard)
    await found.beat(ONE, TWO)
    return found


# -- coming and going --------------------------------------------------------------------------------------------------


async def test_the_first_route_says_online_and_no_other_does(stage: Stage) -> None:
    """Not a renewal, nor another device, nor another node; and it is noted since when, and where."""
    await stage.come(ONE, "a", "b")
    await stage.come(ONE, "a")
    await stage.come(ONE, "a", devices=("phone", "tablet"))
    await stage.come(TWO, "a", devices=())
    assert await stage.told() == [f"online a {ONE}", f"online b {ONE}"]
    assert await stage.on(ONE) == {"a": "phone,tablet", "b": "phone"}
    assert await stage.on(TWO) == {"a": ""}
    assert abs(int(await stage.redis.hget(stage.keys.online(), "a")) - now_ms()) < SLACK_MS


async def test_the_last_route_begins_the_grace(stage: Stage) -> None:
    """Nothing is said before it is over; then once, with when she came."""
    await stage.come(ONE, "a")
    await stage.come(TWO, "a")
    await stage.go(ONE, "a")
    assert await stage.redis.zcard(stage.keys.leaving()) == 0
    await stage.go(TWO, "a")
    assert abs(await stage.redis.zscore(stage.keys.leaving(), "a") - now_ms() - GRACE_MS) < SLACK_MS
    assert await stage.say() == Said(0, 0)
    await stage.pass_grace()
    since = (await stage.redis.hget(stage.keys.online(), "a")).decode()
    assert await stage.say() == Said(1, 1)
    assert (await stage.shard.entries(stage.keys.events()))[1:] == [{"event": "offline", "user": "a", "since": since}]
    assert await stage.say() == Said(0, 0)
    for key in (stage.keys.on(ONE), stage.keys.on(TWO), stage.keys.online(), stage.keys.leaving()):
        assert not await stage.redis.exists(key)


async def test_who_is_back_in_time_was_never_offline(stage: Stage) -> None:
    """On whichever node; and no event tells of it."""
    await stage.come(ONE, "a", "b")
    await stage.go(ONE, "a", "b")
    await stage.come(TWO, "a")
    await stage.pass_grace()
    assert await stage.say() == Said(1, 1)
    assert await stage.told() == [f"online a {ONE}", f"online b {ONE}", "offline b"]


async def test_who_is_back_has_the_whole_grace_the_next_time(stage: Stage) -> None:
    """Being back takes the first one back."""
    await stage.come(ONE, "a")
    await stage.go(ONE, "a")
    await stage.redis.zadd(stage.keys.leaving(), {"a": now_ms() + 1})
    await stage.come(ONE, "a")
    assert await stage.redis.zcard(stage.keys.leaving()) == 0
    await stage.go(ONE, "a")
    assert await stage.redis.zscore(stage.keys.leaving(), "a") > now_ms() + GRACE_MS / 2


async def test_a_call_made_again_does_not_begin_the_grace_anew(stage: Stage) -> None:
    """Its answer had been lost."""
    await stage.come(ONE, "a")
    await stage.go(ONE, "a")
    await stage.redis.zadd(stage.keys.leaving(), {"a": 5})
    await stage.go(ONE, "a")
    assert await stage.redis.zscore(stage.keys.leaving(), "a") == 5


async def test_a_route_to_a_node_that_does_not_live_is_none(stage: Stage) -> None:
    """The grace begins with the last one that leads to a living node, and offline is said although it has not expired."""
    await stage.come(ONE, "a")
    await stage.come(TWO, "a")
    await stage.beat(ONE, ms=-1)
    await stage.go(TWO, "a")
    await stage.pass_grace()
    assert await stage.say() == Said(1, 1)
    assert await stage.shard.nodes_of("a") == [ONE]
    # It had only been frozen: its heartbeat comes back, and then its renewal, which finds that nobody is noted there.
    await stage.beat(ONE)
    assert await stage.on(ONE) == {}
    await stage.come(ONE, "a")
    assert await stage.told() == [f"online a {ONE}", "offline a", f"online a {ONE}"]


async def test_a_route_that_lapsed_is_written_whole(stage: Stage) -> None:
    """Although the node's hash says that all is as it was: offline may have been said meanwhile."""
    await stage.come(ONE, "a", "b")
    await stage.redis.delete(stage.keys.route("a"))
    await stage.redis.hdel(stage.keys.online(), "a")
    await stage.redis.hset(stage.keys.online(), "z", "1")
    await stage.come(ONE, "a", "b")
    assert await stage.told() == [f"online a {ONE}", f"online b {ONE}", f"online a {ONE}"]


async def test_what_was_removed_by_hand_is_written_anew(stage: Stage) -> None:
    """By the next renewal."""
    await stage.come(ONE, "a", "b")
    await stage.redis.delete(stage.keys.online(), stage.keys.on(ONE))
    await stage.come(ONE, "a", "b")
    assert await stage.on(ONE) == {"a": "phone", "b": "phone"}
    await stage.redis.delete(stage.keys.online())
    await stage.come(ONE, "a", "b")
    assert await stage.redis.hlen(stage.keys.online()) == 2


@pytest.mark.parametrize("broken", ["online", "leaving", "events", "on", "nodes"])
async def test_a_broken_key_of_presence_costs_nobody_the_route(stage: Stage, broken: str) -> None:
    """Routes come and go; and dispatch does nothing by halves, but says what is wrong."""
    key = stage.keys.on(ONE) if broken == "on" else getattr(stage.keys, broken)()
    await stage.come(ONE, "b")
    await stage.go(ONE, "b")
    await stage.pass_grace()
    await stage.redis.delete(key)
    await stage.redis.set(key, "by hand")
    await stage.come(ONE, "a")
    assert await stage.shard.nodes_of("a") == [ONE]
    await stage.go(ONE, "a")
    assert await stage.shard.nodes_of("a") == []
    if broken in {"online", "leaving", "events"}:
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await stage.say()
        await stage.redis.delete(key)
        await stage.say()


# -- nodes that die ----------------------------------------------------------------------------------------------------


async def test_a_dead_nodes_users_are_taken_in_slices(stage: Stage) -> None:
    """Only once the grace is over; gone is said once, behind the last of them; who is elsewhere stays online."""
    users = [f"u{n}" for n in range(5)]
    await stage.come(ONE, *users)
    await stage.come(TWO, "u0", "u1")
    await stage.beat(ONE, ms=-GRACE_MS // 2)
    assert await stage.leaving.see_to_node(HELD) == Gone("", 0, over=False)
    await stage.beat(ONE, ms=-GRACE_MS - 1)
    slices = [await stage.leaving.see_to_node(HELD, 2) for _ in range(4)]
    assert slices == [Gone(ONE, 2, over=False)] * 2 + [Gone(ONE, 1, over=True), Gone("", 0, over=False)]
    assert await stage.say() == Said(5, 3)
    told = await stage.told()
    assert told[5:6] == [f"gone {ONE}"]
    assert sorted(told[6:]) == ["offline u2", "offline u3", "offline u4"]
    assert await stage.redis.zrange(stage.keys.nodes(), 0, -1) == [TWO.encode()]
    assert not await stage.redis.exists(stage.keys.on(ONE))


async def test_an_owner_that_dies_between_slices_says_nothing_twice(stage: Stage) -> None:
    """What it did is done, the next one goes on, and the first is fenced off when it wakes."""
    users = [f"u{n}" for n in range(6)]
    await stage.come(ONE, *users)
    await stage.beat(ONE, ms=-GRACE_MS - 1)
    for call in (stage.leaving.see_to_node, stage.leaving.say):
        await call(HELD, 2)
        await stage.redis.set(stage.keys.lease("dispatch"), STALE)
        with pytest.raises(Fenced):
            await call(HELD, 2)
        await call(STALE, 100)
        await stage.redis.set(stage.keys.lease("dispatch"), HELD)
    told = await stage.told()
    assert told[6] == f"gone {ONE}"
    assert sorted(told[7:]) == [f"offline {user}" for user in users]


async def test_a_node_that_was_frozen_goes_on(stage: Stage) -> None:
    """Half of its users were taken; it comes back, and nobody is offline. What is missing is written by its renewals."""
    users = [f"u{n}" for n in range(4)]
    await stage.come(ONE, *users)
    await stage.beat(ONE, ms=-GRACE_MS - 1)
    await stage.leaving.see_to_node(HELD, 2)
    await stage.beat(ONE)
    assert await stage.leaving.see_to_node(HELD) == Gone("", 0, over=False)
    assert await stage.say() == Said(2, 0)
    await stage.come(ONE, *users)
    assert await stage.on(ONE) == dict.fromkeys(users, "phone")
    assert await stage.told() == [f"online {user} {ONE}" for user in users]


async def test_a_node_that_dies_before_its_first_heartbeat_is_found(stage: Stage) -> None:
    """Whoever writes a route is listed, as one that does not live."""
    await stage.come(THREE, "a")
    assert await stage.redis.zscore(stage.keys.nodes(), THREE) <= now_ms()
    assert not (await presence_of(stage.redis, stage.shard.settings, ["a"]))[0].online
    await stage.beat(THREE, ms=-GRACE_MS)
    assert await stage.leaving.see_to_node(HELD) == Gone(THREE, 1, over=True)
    assert await stage.say() == Said(1, 1)


async def test_a_hash_of_another_type_does_not_keep_a_node_from_being_gone(stage: Stage) -> None:
    """Somebody has put it there; nobody else's leave waits for it."""
    await stage.redis.set(stage.keys.on(ONE), "by hand")
    await stage.beat(ONE, ms=-GRACE_MS)
    assert await stage.leaving.see_to_node(HELD) == Gone(ONE, 0, over=True)
    assert not await stage.redis.exists(stage.keys.on(ONE))


async def test_a_node_whose_name_is_no_text_is_gone_as_any(real_shard: Shard) -> None:
    """Somebody has put it there; dispatch goes on. The fake's scripts know text only."""
    stage = Stage(real_shard)
    await stage.redis.zadd(stage.keys.nodes(), {b"\xff": 1})
    assert await stage.leaving.see_to_node(HELD) == Gone("\ufffd", 0, over=True)


# -- what Redis has forgotten ------------------------------------------------------------------------------------------


async def test_nobody_stands_on_a_node_of_whom_offline_is_said(stage: Stage) -> None:
    """A failover has forgotten that a session ended; its route has expired, and its node lives on."""
    await stage.come(ONE, "a", "b")
    await stage.redis.delete(stage.keys.route("a"))
    await stage.leaving.check(HELD, 0)
    await stage.pass_grace()
    assert await stage.say() == Said(1, 1)
    assert await stage.on(ONE) == {"b": "phone"}


async def test_online_is_gone_through(stage: Stage) -> None:
    """Who has no route to any node is found; who is there, or on a node that is not gone yet, or on the way, is not."""
    await stage.come(ONE, "there", "on the way", "lost")
    await stage.come(TWO, "not yet")
    await stage.beat(TWO, ms=-1)
    await stage.go(ONE, "on the way")
    await stage.redis.delete(stage.keys.route("lost"))
    assert await stage.leaving.check(HELD, 0) == (0, 1)
    assert await stage.leaving.check(HELD, 0) == (0, 0)
    assert sorted(await stage.redis.zrange(stage.keys.leaving(), 0, -1)) == [b"lost", b"on the way"]


async def test_many_are_gone_through_in_steps(stage: Stage) -> None:
    """As many calls as it takes, until the cursor is 0 again."""
    await stage.redis.hset(stage.keys.online(), mapping={f"u{n}": "1" for n in range(2_000)})
    cursor, found, calls = 0, 0, 0
    while calls == 0 or cursor:
        cursor, more = await stage.leaving.check(HELD, cursor)
        found, calls = found + more, calls + 1
    assert found == 2_000
    assert calls > 1


# -- what is asked -----------------------------------------------------------------------------------------------------


async def test_presence_is_what_routes_and_heartbeats_say_now(stage: Stage) -> None:
    """With devices and since when; in the order asked, and a user asked after twice is told twice."""
    await stage.come(ONE, "a", devices=("desk", "phone"))
    await stage.come(TWO, "a", devices=())
    await stage.come(TWO, "b")
    await stage.redis.set(stage.keys.route("broken"), "x")
    await stage.beat(TWO, ms=-1)
    found = await presence_of(stage.redis, stage.shard.settings, ["b", "a", "nobody", "a", "broken"])
    assert [one.user for one in found] == ["b", "a", "nobody", "a", "broken"]
    assert [one.online for one in found] == [False, True, False, True, False]
    assert found[1].nodes == (NodePresence(ONE, ("desk", "phone")),)
    assert found[1].since_ms == int(await stage.redis.hget(stage.keys.online(), "a"))
    assert (found[0].since_ms, found[0].nodes) == (None, ())
    await stage.beat(TWO)
    again = (await presence_of(stage.redis, stage.shard.settings, ["a"]))[0]
    assert set(again.nodes) == {NodePresence(ONE, ("desk", "phone")), NodePresence(TWO, ())}


async def test_ten_thousand_are_asked_after(stage: Stage) -> None:
    """And no more."""
    users = [f"u{n}" for n in range(10_000)]
    await stage.come(ONE, *users[:600])
    found = await presence_of(stage.redis, stage.shard.settings, users)
    assert [one.user for one in found] == users
    assert sum(one.online for one in found) == 600
    with pytest.raises(ValueError, match="10001 users"):
        await presence_of(stage.redis, stage.shard.settings, [*users, "x"])


async def test_pages_of_who_is_online(shard: Shard) -> None:
    """Each of them over all shards, and a cursor that is none is refused."""
    settings = shard.settings.model_copy(update={"shards": 2})
    users: dict[Any, Any] = {f"u{n}": str(n) for n in range(3_000)}
    await shard.redis.hset("push:{0}:online", mapping=users)
    await shard.redis.hset("push:{1}:online", mapping={"v": "7"})
    found: dict[str, int] = {}
    page = await online_users(shard.redis, settings, limit=100)
    pages = 1
    while page.next is not None:
        found |= page.users
        page, pages = await online_users(shard.redis, settings, page.next, 100), pages + 1
    found |= page.users
    assert found == {user: int(since) for user, since in users.items()} | {"v": 7}
    assert pages > 3
    for cursor in ("", "x", "2-0", "0-x", "0-99999999999999999999"):
        with pytest.raises(ValueError, match="is no cursor"):
            await online_users(shard.redis, settings, cursor)


# -- erasing a person --------------------------------------------------------------------------------------------------


async def forget(stage: Stage, user: str) -> int:
    """Call the script as `router.forget` does."""
    keys = stage.keys
    names = [keys.nodes(), keys.online(), keys.leaving(), keys.events(), keys.route(user)]
    removed: int = await stage.redis.register_script(lua.source("presence_forget"))(keys=names, args=[user, 100_000])
    return removed


async def test_a_person_is_taken_out_of_all_of_it(stage: Stage) -> None:
    """Once no live route is left; whoever watches is told."""
    await stage.come(ONE, "a", "b")
    await stage.come(TWO, "a")
    assert await forget(stage, "a") == 0
    await stage.beat(ONE, ms=-1)
    await stage.go(TWO, "a")
    assert await forget(stage, "a") == 3
    assert await forget(stage, "a") == 0
    assert (await stage.told())[-1] == "offline a"
    assert await stage.on(ONE) == {"b": "phone"}
    assert await stage.redis.hkeys(stage.keys.online()) == [b"b"]
    assert await stage.redis.zcard(stage.keys.leaving()) == 0


# -- a full Redis ------------------------------------------------------------------------------------------------------


async def test_presence_goes_on_when_memory_is_full(real_shard: Shard) -> None:
    """Who comes, who goes and who dies is told then too."""
    stage = Stage(real_shard)
    await stage.beat(ONE, TWO)
    await stage.come(ONE, "a", "b", "c")
    await stage.go(ONE, "a")
    await stage.pass_grace()
    await stage.beat(ONE, ms=-GRACE_MS)
    await stage.redis.delete(stage.keys.route("c"))
    await stage.redis.hdel(stage.keys.on(ONE), "c")
    await stage.redis.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        await stage.redis.set("x", "y")
    assert await stage.say() == Said(1, 1)
    assert await stage.leaving.see_to_node(HELD) == Gone(ONE, 1, over=True)
    assert await stage.say() == Said(1, 1)
    assert await stage.leaving.check(HELD, 0) == (0, 1)
    await stage.come(TWO, "a")
    await stage.go(TWO, "a")
    assert await forget(stage, "a") == 2
    assert (await stage.told())[-2:] == [f"online a {TWO}", "offline a"]
