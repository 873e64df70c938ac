"""lua/dispatch.lua through Outlet: a line that stands for the lines of many users."""

from __future__ import annotations

import pytest

from router.lines import build_line, build_many, build_opts, build_place
from router.stored import make_body
from tests.scripts.shard import HELD, Shard, line, now_ms

pytestmark = pytest.mark.anyio

EDGES = {number: f"push:{{0}}:node:edge.{number}" for number in (1, 2)}
BODY = make_body("m", 7, '"text":"hi, {you}"')
HOUR_MS = 3_600_000


def _many(*users: str, seq: int | None = 9_007_199_254_000_001, expires_ms: int | None = None, text: str = "") -> str:
    places = [build_place(f"user:{user}", None if seq is None else seq - 1, seq) for user in users]
    rest = make_body("m", 7, f'"text":"{text}"').rest if text else BODY.rest
    return build_many(places, build_opts(expires_ms), rest)


async def _reports(shard: Shard) -> list[tuple[str, str]]:
    return [(report["to"], report["reason"]) for report in await shard.entries(shard.keys.offline())]


async def test_each_node_gets_one_line_of_its_own_users(shard: Shard) -> None:
    """In the order of the line; a user of two nodes is in both, and what stands around it keeps its place."""
    for user, nodes in {"a": (1,), "b": (2,), "c": (1, 2), "d": (1,)}.items():
        await shard.route(user, *(f"edge.{node}" for node in nodes))
    await shard.put_out(line("user:a", 1), _many("a", "b", "c", "d"), line("user:b", 2))
    async with shard.listening(*EDGES.values()) as ear:
        result = await shard.outlet.dispatch(HELD, 10)
        heard = await ear.heard()
    assert sorted(heard) == [
        (EDGES[1], f"{line('user:a', 1)}\n{_many('a', 'c', 'd')}"),
        (EDGES[2], f"{_many('b', 'c')}\n{line('user:b', 2)}"),
    ]
    assert (result.taken, result.done, result.published, result.offline, result.more) == (3, 3, 4, 0, 3)
    assert await shard.ids(shard.keys.out()) == []


async def test_line_for_one_node_is_the_line_itself(shard: Shard) -> None:
    """Byte by byte."""
    for user in ("a", "b"):
        await shard.route(user, "edge.1")
    await shard.put_out(_many("a", "b", seq=None, expires_ms=now_ms() + HOUR_MS))
    (before,) = await shard.lines_out()
    async with shard.listening(EDGES[1]) as ear:
        await shard.outlet.dispatch(HELD, 10)
        assert await ear.heard() == [(EDGES[1], before)]


async def test_users_without_a_route_are_reported_one_by_one(shard: Shard) -> None:
    """As ordinary lines would be: with seq and frame."""
    await shard.route("b", "edge.1")
    await shard.put_out(_many("a", "b", "c"))
    async with shard.listening(EDGES[1]) as ear:
        result = await shard.outlet.dispatch(HELD, 10)
        assert await ear.heard() == [(EDGES[1], _many("b"))]
    assert (result.done, result.offline) == (1, 2)
    one, two = await shard.entries(shard.keys.offline())
    seq = 9_007_199_254_000_001
    assert one == {"to": "user:a", "seq": str(seq), "reason": "no_route", "frame": BODY.frame("user:a", seq)}
    assert (two["to"], two["reason"]) == ("user:c", "no_route")


async def test_only_durable_and_unexpired_ones_are_reported(shard: Shard) -> None:
    """What is transient or over is no news to whoever is offline."""
    await shard.put_out(
        _many("a", "b", seq=None), _many("c", expires_ms=now_ms() - 1), _many("d", expires_ms=now_ms() + HOUR_MS)
    )
    result = await shard.outlet.dispatch(HELD, 10)
    assert (result.done, result.offline) == (3, 1)
    assert await _reports(shard) == [("user:d", "no_route")]


@pytest.mark.parametrize("lapsed", [True, False])
async def test_dead_node_is_dropped_for_each_of_its_users(shard: Shard, lapsed: bool) -> None:
    """An empty house reports each of them; with a lapsed heartbeat their routes go as well, and nobody else's."""
    for user in ("a", "b"):
        await shard.route(user, "edge.1", node_ms=-1 if lapsed else 60_000)
    await shard.route("c", "edge.2")
    await shard.put_out(_many("a", "b", "c"))
    async with shard.listening(EDGES[2]) as ear:
        await shard.outlet.dispatch(HELD, 10)
        assert await ear.heard() == [(EDGES[2], _many("c"))]
    reason = "node_lapsed" if lapsed else "nobody_listening"
    assert await _reports(shard) == [("user:a", reason), ("user:b", reason)]
    assert [await shard.nodes_of(user) for user in ("a", "b", "c")] == [[], [], ["edge.2"]] if lapsed else [["edge.1"]] * 2


async def test_broken_route_is_its_users_own_trouble(shard: Shard) -> None:
    """The user is reported, and the others get theirs."""
    await shard.redis.set(shard.keys.route("a"), "not a sorted set")
    await shard.route("b", "edge.1")
    await shard.put_out(_many("a", "b"))
    async with shard.listening(EDGES[1]) as ear:
        result = await shard.outlet.dispatch(HELD, 10)
        assert await ear.heard() == [(EDGES[1], _many("b"))]
    assert (result.done, result.failed_id) == (1, "")
    assert await _reports(shard) == [("user:a", "no_route")]


@pytest.mark.parametrize("text", ["many - - - topic:t,1,2 {}", "many - - -"])
async def test_line_that_is_none_is_at_fault(shard: Shard, text: str) -> None:
    """It is a dead letter, and nothing of it is published."""
    _, wrong = await shard.put_out(line("user:a", 1), text)
    result = await shard.outlet.dispatch(HELD, 10)
    assert (result.done, result.published, result.dead, result.failed_id) == (2, 0, 1, wrong)
    assert result.failure in {"not a user: topic:t", "not a payload line"}


async def test_full_node_waits_for_the_next_call(shard: Shard) -> None:
    """A line is handed on to all nodes or to none."""
    small = shard.with_settings(publish_max_bytes=400)
    await shard.route("a", "edge.1", "edge.2")
    await shard.route("b", "edge.1")
    lines = [_many("a", "b", "z", seq=seq, text="x" * 150) for seq in (2, 3)]
    await shard.put_out(*lines)
    async with shard.listening(*EDGES.values()) as ear:
        first = await small.outlet.dispatch(HELD, 10)
        second = await small.outlet.dispatch(HELD, 10)
        heard = await ear.heard()
    assert [(one.done, one.published, one.offline) for one in (first, second)] == [(1, 2, 1), (1, 2, 1)]
    assert [channel for channel, _ in heard].count(EDGES[2]) == 2


async def test_look_ups_of_a_call_are_bounded(shard: Shard) -> None:
    """As many as ordinary lines would have had; one line at least is done."""
    users = [f"u{number}" for number in range(100)]
    await shard.put_out(*(_many(*users, seq=None) for _ in range(5)))
    done = []
    while (result := await shard.outlet.dispatch(HELD, 250)).taken:
        done.append((result.done, result.more))
    assert done == [(2, 198), (2, 198), (1, 99)]
    await shard.put_out(_many(*users, seq=None))
    assert (await shard.outlet.dispatch(HELD, 10)).done == 1


async def test_reports_of_a_call_are_bounded(shard: Shard) -> None:
    """By the bytes of the frames that they may hold; one line at least is done."""
    small = shard.with_settings(publish_max_bytes=2_000)
    users = [f"u{number}" for number in range(10)]
    await shard.put_out(*(_many(*users, seq=seq, text="x" * 60) for seq in (2, 3, 4)))
    assert [(await small.outlet.dispatch(HELD, 1_000)).offline for _ in range(3)] == [20, 10, 0]


async def test_lines_of_many_are_not_read_in_vain(shard: Shard) -> None:
    """Only about as many as a call may hand on are read: an entry of them is short beside what may come of it."""
    small = shard.with_settings(publish_max_bytes=20_000, read_max_bytes=80_000, body_max_bytes=80_000)
    users = [f"u{number}" for number in range(20)]
    await shard.put_out(*(_many(*users, seq=seq, text="x" * 1_000) for seq in range(2, 40)))
    assert (await small.outlet.dispatch(HELD, 1_000)).taken < 20


async def test_line_of_many_is_what_its_lines_are(shard: Shard) -> None:
    """Whoever is offline, the reports are the same."""
    users = ("a", "b", "c")
    await shard.put_out(_many(*users))
    await shard.outlet.dispatch(HELD, 10)
    reports = await shard.entries(shard.keys.offline())
    await shard.redis.delete(shard.keys.offline())
    seq = 9_007_199_254_000_001
    await shard.put_out(*(build_line(f"user:{user}", seq - 1, seq, None, BODY.frame(f"user:{user}", seq)) for user in users))
    await shard.outlet.dispatch(HELD, 10)
    assert await shard.entries(shard.keys.offline()) == reports
