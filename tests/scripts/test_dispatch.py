"""lua/dispatch.lua through Outlet: what it publishes, in which order, and how much of it."""

from __future__ import annotations

import pytest
from redis.exceptions import ReadOnlyError

from router.dispatch import Dispatched
from tests.scripts.shard import HELD, Shard, line, now_ms

pytestmark = pytest.mark.anyio

EDGE_1 = "push:{0}:node:edge.1"
EDGE_2 = "push:{0}:node:edge.2"
ALL = "push:{0}:all"
NEWS = "push:{0}:topic:news"


def _went_well(taken: int, published: int, done: int | None = None) -> Dispatched:
    return Dispatched(taken, taken if done is None else done, published, 0, "", "")


async def test_nothing_to_do(shard: Shard) -> None:
    """An empty stream is no error."""
    assert await shard.outlet.dispatch(HELD, 10) == _went_well(0, 0)


async def test_how_long_the_first_entry_had_waited(shard: Shard) -> None:
    """It is told in ms, by Redis' clock; nothing taken has waited for nothing."""
    assert (await shard.outlet.dispatch(HELD, 10)).waited_ms == 0
    await shard.redis.xadd(shard.keys.out(), {"line": line("user:a", 1)}, id=f"{now_ms() - 5_000}-0")
    await shard.put_out(line("user:a", 2))
    assert 5_000 <= (await shard.outlet.dispatch(HELD, 10)).waited_ms < 65_000


async def test_one_payload_a_node_in_order(shard: Shard) -> None:
    """The lines of two users of a node come in one payload, in the stream's order; then the entries are gone."""
    await shard.route("a", "edge.1")
    await shard.route("b", "edge.1")
    lines = [line(target, seq) for seq, target in enumerate(["user:a", "user:b", "user:b", "user:a", "user:b"], start=1)]
    await shard.put_out(*lines)
    async with shard.listening(EDGE_1) as ear:
        assert await shard.outlet.dispatch(HELD, 10) == _went_well(5, 5)
        assert await ear.heard() == [(EDGE_1, "\n".join(lines))]
    assert await shard.ids(shard.keys.out()) == []
    assert await shard.pending_ids(shard.keys.out(), "dispatch") == []
    assert await shard.entries(shard.keys.offline()) == []


async def test_user_on_several_nodes(shard: Shard) -> None:
    """Every node that holds a live route gets the line, and only it."""
    await shard.route("a", "edge.1", "edge.2")
    await shard.route("b", "edge.2")
    to_a, to_b = line("user:a", 1), line("user:b", 2)
    await shard.put_out(to_a, to_b)
    async with shard.listening(EDGE_1, EDGE_2) as ear:
        assert await shard.outlet.dispatch(HELD, 10) == _went_well(2, 3)
        assert sorted(await ear.heard()) == [(EDGE_1, to_a), (EDGE_2, f"{to_a}\n{to_b}")]


async def test_topic_and_all_have_channels_of_their_own(shard: Shard) -> None:
    """A topic goes to its subscribers' channel and `all` to everybody's; neither asks for routes nor is reported."""
    to_news, to_all, to_void = line("topic:news", 1), line("all", 2), line("topic:void", 3)
    await shard.put_out(to_news, to_all, to_void)
    async with shard.listening(NEWS, ALL) as ear:
        assert await shard.outlet.dispatch(HELD, 10) == _went_well(3, 3)
        assert sorted(await ear.heard()) == [(ALL, to_all), (NEWS, to_news)]
    assert await shard.entries(shard.keys.offline()) == []


async def test_user_named_like_a_topic_or_all(shard: Shard) -> None:
    """Ids with colons and the names of other kinds stay in their own kind."""
    for user in ("all", "topic:news", "user:a", "müller", "%d+.*"):
        await shard.route(user, "edge.1")
    lines = [line(f"user:{user}", 1) for user in ("all", "topic:news", "user:a", "müller", "%d+.*")]
    await shard.put_out(*lines)
    async with shard.listening(ALL, NEWS, EDGE_1) as ear:
        await shard.outlet.dispatch(HELD, 10)
        assert await ear.heard() == [(EDGE_1, "\n".join(lines))]


async def test_expired_route_is_none(shard: Shard) -> None:
    """Only unexpired routes are published to."""
    await shard.route("a", "edge.1", route_ms=-1)
    await shard.route("a", "edge.2")
    await shard.put_out(line("user:a", 1))
    async with shard.listening(EDGE_1, EDGE_2) as ear:
        assert await shard.outlet.dispatch(HELD, 10) == _went_well(1, 1)
        assert [channel for channel, _ in await ear.heard()] == [EDGE_2]


async def test_most_entries_of_a_call(shard: Shard) -> None:
    """`most` entries are taken, in steps of the script's own; the next call goes on where this one ended."""
    await shard.route("a", "edge.1")
    lines = [line("user:a", seq) for seq in range(500)]
    await shard.put_out(*lines)
    async with shard.listening(EDGE_1) as ear:
        assert await shard.outlet.dispatch(HELD, 300) == _went_well(300, 300)
        assert await shard.outlet.dispatch(HELD, 300) == _went_well(200, 200)
        assert [payload for _, payload in await ear.heard()] == ["\n".join(lines[:300]), "\n".join(lines[300:])]


async def test_read_budget_leaves_the_rest(shard: Shard) -> None:
    """A call ends with the line that passes `read_max_bytes`; what is behind it is left to the next."""
    lines = [line("topic:news", seq, text="x" * 100) for seq in range(1_000, 1_030)]
    await shard.put_out(*lines)
    shard = shard.with_settings(read_max_bytes=10 * len(lines[0]))
    for _ in range(3):
        assert await shard.outlet.dispatch(HELD, 1_000) == _went_well(10, 10)
    assert await shard.outlet.dispatch(HELD, 1_000) == _went_well(0, 0)


async def test_publish_budget_leaves_the_rest(shard: Shard) -> None:
    """A channel that is full ends the batch; what is left is found again, in order, none twice."""
    await shard.route("a", "edge.1")
    await shard.route("b", "edge.2")
    lines = [line("user:b" if seq == 5 else "user:a", seq, text="x" * 400) for seq in range(10)]
    await shard.put_out(*lines)
    shard = shard.with_settings(publish_max_bytes=1_500)
    async with shard.listening(EDGE_1, EDGE_2) as ear:
        results = [await shard.outlet.dispatch(HELD, 100)]
        while results[-1].taken:
            results.append(await shard.outlet.dispatch(HELD, 100))
        heard = await ear.heard()
    assert [(result.taken, result.done) for result in results] == [(4, 3), (5, 4), (3, 3), (0, 0)]
    assert [part for channel, payload in heard if channel == EDGE_1 for part in payload.split("\n")] == [
        text for seq, text in enumerate(lines) if seq != 5
    ]
    assert [payload for channel, payload in heard if channel == EDGE_2] == [lines[5]]
    assert max(len(payload) for _, payload in heard) <= 1_500


async def test_budget_of_one_node_counts_for_all_nodes_of_a_line(shard: Shard) -> None:
    """A line for two nodes, one of them full, goes to neither yet: it is not published twice to the other."""
    await shard.route("a", "edge.1")
    await shard.route("both", "edge.1", "edge.2")
    first, second = line("user:a", 1, text="x" * 800), line("user:both", 2, text="x" * 800)
    await shard.put_out(first, second)
    shard = shard.with_settings(publish_max_bytes=1_000)
    async with shard.listening(EDGE_1, EDGE_2) as ear:
        assert (await shard.outlet.dispatch(HELD, 100)).done == 1
        assert (await shard.outlet.dispatch(HELD, 100)).done == 1
        assert sorted(await ear.heard()) == [(EDGE_1, first), (EDGE_1, second), (EDGE_2, second)]


async def test_entry_of_several_lines(shard: Shard) -> None:
    """Each goes where it belongs, in their order; the counts are of entries, and `more` of the lines beyond."""
    await shard.route("a", "edge.1")
    await shard.route("b", "edge.1", "edge.2")
    lines = [line(target, seq) for seq, target in enumerate(["user:a", "user:b", "topic:news", "user:a", "all", "user:b"])]
    await shard.put_out("\n".join(lines[:3]), lines[3], "\n".join(lines[4:]))
    async with shard.listening(EDGE_1, EDGE_2, ALL, NEWS) as ear:
        result = await shard.outlet.dispatch(HELD, 10)
        heard = dict(await ear.heard())
    assert (result.taken, result.done, result.more, result.published) == (3, 3, 3, 8)
    expected = {EDGE_1: (0, 1, 3, 5), EDGE_2: (1, 5), ALL: (4,), NEWS: (2,)}
    assert heard == {channel: "\n".join(lines[at] for at in places) for channel, places in expected.items()}
    assert await shard.ids(shard.keys.out()) == []


async def test_publish_budget_takes_entries_whole(shard: Shard) -> None:
    """One whose lines may not all fit is left to the next call, with all of them: none is published twice."""
    await shard.route("a", "edge.1")
    await shard.route("b", "edge.2")
    users = ["user:a", "user:b", "user:a"]
    lines = [line(user, None, text=f"{number}" + "x" * 200) for number, user in enumerate(users * 4)]
    await shard.put_out(*("\n".join(lines[at : at + 3]) for at in range(0, 12, 3)))
    small = shard.with_settings(publish_max_bytes=2 * len("\n".join(lines[:3])))
    async with shard.listening(EDGE_1, EDGE_2) as ear:
        results = [await small.outlet.dispatch(HELD, 100)]
        while results[-1].taken:
            results.append(await small.outlet.dispatch(HELD, 100))
        heard = await ear.heard()
    assert [(result.taken, result.done, result.more) for result in results] == [(3, 2, 4), (2, 2, 4), (0, 0, 0)]
    for channel, user in ((EDGE_1, "user:a"), (EDGE_2, "user:b")):
        published = [part for name, payload in heard if name == channel for part in payload.split("\n")]
        assert published == [text for text in lines if text.startswith(user)]


async def test_entry_larger_than_the_budget_goes_alone(shard: Shard) -> None:
    """All its lines at once, as one that is longer would."""
    lines = [line("topic:news", seq, text="x" * 400) for seq in range(5)]
    await shard.put_out(lines[0], "\n".join(lines[1:4]), lines[4])
    small = shard.with_settings(publish_max_bytes=600)
    async with shard.listening(NEWS) as ear:
        assert [(await small.outlet.dispatch(HELD, 100)).done for _ in range(3)] == [1, 1, 1]
        assert [payload for _, payload in await ear.heard()] == [lines[0], "\n".join(lines[1:4]), lines[4]]


async def test_lines_of_a_call_are_bounded(shard: Shard) -> None:
    """A call ends with the entry that has the last of so many lines; about as many are read."""
    await shard.put_out(*("\n".join(line("topic:news", seq) for seq in range(32)) for _ in range(100)))
    results = [await shard.outlet.dispatch(HELD, 1_000) for _ in range(4)]
    assert [(result.taken, result.done, result.more) for result in results] == [(32, 32, 992)] * 3 + [(4, 4, 124)]


async def test_line_larger_than_the_budget_goes_alone(shard: Shard) -> None:
    """A line that no budget holds stops nothing."""
    lines = [line("topic:news", 1), line("topic:news", 2, text="x" * 3_000), line("topic:news", 3)]
    await shard.put_out(*lines)
    shard = shard.with_settings(publish_max_bytes=1_000)
    async with shard.listening(NEWS) as ear:
        assert (await shard.outlet.dispatch(HELD, 100)).done == 1
        assert (await shard.outlet.dispatch(HELD, 100)).done == 1
        assert (await shard.outlet.dispatch(HELD, 100)).done == 1
        assert [payload for _, payload in await ear.heard()] == lines


async def test_taken_through_the_group_comes_all_the_same(shard: Shard) -> None:
    """What somebody took through the group, as an earlier version did, is dispatched in its place, in chunks and in order."""
    await shard.route("a", "edge.1")
    lines = [line("user:a", seq) for seq in range(400)]
    await shard.put_out(*lines)
    await shard.redis.xreadgroup("dispatch", "dispatch", {shard.keys.out(): ">"}, count=350)
    async with shard.listening(EDGE_1) as ear:
        assert await shard.outlet.dispatch(HELD, 300) == _went_well(300, 300)
        assert await shard.outlet.dispatch(HELD, 300) == _went_well(100, 100)
        heard = "\n".join(payload for _, payload in await ear.heard())
    assert heard.split("\n") == lines


async def test_taken_through_the_group_does_not_stay_pending(real_shard: Shard) -> None:
    """Once it is gone, done with or deleted by somebody, the group forgets it."""
    shard = real_shard  # fakeredis keeps what was deleted
    ids = await shard.put_out(*(line("topic:news", seq) for seq in range(5)))
    await shard.redis.xreadgroup("dispatch", "dispatch", {shard.keys.out(): ">"})
    await shard.redis.xdel(shard.keys.out(), ids[0], ids[2])
    assert await shard.outlet.dispatch(HELD, 10) == _went_well(3, 3)
    assert await shard.outlet.dispatch(HELD, 10) == _went_well(0, 0)
    assert await shard.pending_ids(shard.keys.out(), "dispatch") == []


async def test_group_tells_how_far_it_has_come(shard: Shard) -> None:
    """Its last id is that of the last entry that is done; nothing is pending."""
    ids = await shard.put_out(*(line("topic:news", seq) for seq in range(5)))
    await shard.outlet.dispatch(HELD, 3)
    (group,) = await shard.redis.xinfo_groups(shard.keys.out())
    assert (group["last-delivered-id"].decode(), group["pending"]) == (ids[2], 0)


async def test_replica_refuses_though_nothing_is_there(real_shard: Shard) -> None:
    """A server that is no longer the primary says so, or dispatch would wait there for what is appended elsewhere."""
    await real_shard.redis.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises(ReadOnlyError):
            await real_shard.outlet.dispatch(HELD, 10)
    finally:
        await real_shard.redis.replicaof("NO", "ONE")


async def test_done_entries_are_trimmed_exactly(shard: Shard) -> None:
    """What comes behind the batch stays, and nothing of the batch does."""
    ids = await shard.put_out(*(line("topic:news", seq) for seq in range(10)))
    await shard.outlet.dispatch(HELD, 4)
    assert await shard.ids(shard.keys.out()) == ids[4:]


async def test_largest_batch(shard: Shard) -> None:
    """The most entries that the setting allows, each of another user with a route."""
    async with shard.redis.pipeline(transaction=False) as pipe:
        for number in range(3_500):
            pipe.zadd(shard.keys.route(str(number)), {"edge.1": 9_999_999_999_999})
        await pipe.execute()
    await shard.route("a", "edge.1")
    await shard.put_out(*(line(f"user:{number}", number) for number in range(3_500)))
    async with shard.listening(EDGE_1) as ear:
        assert await shard.outlet.dispatch(HELD, 3_500) == _went_well(3_500, 3_500)
        ((_, payload),) = await ear.heard()
    assert payload.count("\n") == 3_499


async def test_group_is_made_where_it_is_missing(real_shard: Shard) -> None:
    """Collect fills `out` before any dispatch has started: nothing of it is passed over."""
    shard = real_shard  # fakeredis tells of it in other words
    await shard.redis.delete(shard.keys.out())
    assert await shard.outlet.dispatch(HELD, 10) == _went_well(0, 0)
    await shard.redis.delete(shard.keys.out())
    await shard.put_out(line("topic:news", 1))
    assert await shard.outlet.dispatch(HELD, 10) == _went_well(1, 1)
